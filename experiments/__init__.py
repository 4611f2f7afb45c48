"""Configs of the published rows, published numbers, and what runs them."""
