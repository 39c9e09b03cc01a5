"""Serving: model bundles, and the engine that runs them."""
