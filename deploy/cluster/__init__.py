"""Running it on a cluster: what its servers are given."""
