"""The admin API: keys, teams and customers under LiteLLM's routes, for whoever holds the master key."""
