"""Shrink: the decision what to remove, its order of passes, and the proof that the output stays the same."""
