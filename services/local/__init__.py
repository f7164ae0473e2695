"""Single-node stand-ins, a simulated Anthropic API, and the supervisor of `tollhouse up`."""
