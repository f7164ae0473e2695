"""Usage in, rated usage out."""
