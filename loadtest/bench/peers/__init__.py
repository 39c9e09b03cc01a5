"""Livegate beside other ways to serve the same bundle, each behind one small adapter."""
