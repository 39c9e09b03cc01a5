"""The networks: mmfCNN, its parts and its peers."""
