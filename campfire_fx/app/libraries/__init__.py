"""Models of other libraries: how their files are opened, and how a slim network goes back into them."""
