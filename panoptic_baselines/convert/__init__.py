"""Readers of official checkpoints.  Nothing in a file is ever run."""
