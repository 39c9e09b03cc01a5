"""The stream: the Redis commands and scripts that deliver frames and commit decisions."""
