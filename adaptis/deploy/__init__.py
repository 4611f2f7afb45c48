"""Trained networks as files that run without this project's network code."""
