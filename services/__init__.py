"""The rooms of Tollhouse: each decides one thing and meets the others in events."""
