"""The price book: what a model costs, from when to when, how that is known, and who published it."""
