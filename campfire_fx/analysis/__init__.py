"""Analysis: what the graphs of a captured model say about its channels."""
