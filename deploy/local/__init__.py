"""Running a deployment on this machine."""
