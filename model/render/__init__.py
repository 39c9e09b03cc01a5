"""Rendered multi-modal faces, bona fide and attacked; needs the extra `render`."""
