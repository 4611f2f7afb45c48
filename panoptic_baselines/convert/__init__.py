"""Converters of official checkpoints, and readers of their files that never run code in them."""
