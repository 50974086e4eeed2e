"""Was this face in the training set? Two attacks, and how well they do."""
