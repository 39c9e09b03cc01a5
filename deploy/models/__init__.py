"""Which bundle judges in a deployment that runs: pushed, tried, swapped, and gone back from."""
