"""Sans-IO: the bytes of an answer in, what was used out."""
