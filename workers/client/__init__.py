"""The client: what cameras and door controllers import."""
