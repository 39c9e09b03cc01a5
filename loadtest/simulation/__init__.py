"""A day of a large fleet in minutes: what an autoscaling policy costs, and what it misses."""
