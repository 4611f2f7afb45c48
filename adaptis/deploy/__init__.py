"""Exported networks: files that run without this library's network code."""
