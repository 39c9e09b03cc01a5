"""Watching a deployment."""
