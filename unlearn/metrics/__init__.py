"""What the numbers mean: pure functions on arrays of losses (nats per token) and on texts. One metric per file."""
