"""The networks: mmfCNN, its building blocks and its peers."""
