"""Configs of the published rows, the published numbers, and the programs that run them."""
