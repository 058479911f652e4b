"""Sweeps: many trainings by one command, side by side, and what they say together."""
