"""Follows message batches to their end, and books each item to whoever created the batch."""
