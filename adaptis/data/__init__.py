"""Data sets on disk, augmentation, point sampling, loading; no MXNet (workers import this)."""
