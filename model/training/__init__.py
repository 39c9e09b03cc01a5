"""Training: from list files to a model bundle."""
