"""Coupled channels: what they are, what they cost, how much they matter, and which of them die."""
