"""Photos, identity splits, batches, and all of them prepared once."""
