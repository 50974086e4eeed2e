"""What is asked of a model beyond its evaluation: many samples, damaged weights, a little training, its inside."""
