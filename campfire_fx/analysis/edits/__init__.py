"""Edits: changes to a graph as values, planned first and applied by the passes."""
