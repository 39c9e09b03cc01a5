"""The console: a page on which an operator sees what is decided, camera by camera."""
