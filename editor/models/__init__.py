"""What a model is: where it comes from, its identity, and the table of model families."""
