"""Trained networks as files that run without this project's code of networks."""
