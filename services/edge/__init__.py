"""HTTP in, HTTP out, events out."""
