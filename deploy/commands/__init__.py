"""The commands of `livegate`."""
