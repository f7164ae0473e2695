"""A simulated Anthropic API for tests, demonstrations and benchmarks; never part of a deployment."""
