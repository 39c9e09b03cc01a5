"""What is done to a deployment under load, and undone."""
