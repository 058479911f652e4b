"""Training: a sparse model, its masks and its clock."""
