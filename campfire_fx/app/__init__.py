"""The applications on top of the library: the command line and what only it needs."""
