"""What keys, teams and end users there are, read from gateway.keys.v1, and what each of them may do."""
