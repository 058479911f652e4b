"""Layers: modules that stand in a rewritten graph."""
