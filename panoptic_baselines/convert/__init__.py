"""Converters of official checkpoints, and readers of their files that run nothing."""
