"""The wire: the bytes of frames and decisions, and who signed them."""
