"""Runs: what a run folder of the training command holds, read again for attacks and reports."""
