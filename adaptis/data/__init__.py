"""Data sets on disk, augmentation, point sampling and loading; NumPy only (workers import this)."""
