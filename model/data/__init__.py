"""The data: planes of faces, where they come from, and what can be judged."""
