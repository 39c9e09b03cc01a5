"""Results as people read them: in the terminal, as a page, as pictures."""
