"""The replica: the path of a frame from delivery to commit."""
