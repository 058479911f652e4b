"""Acceleration: each layer in the form that is measured to be fastest here, and the proof of equal outputs."""
