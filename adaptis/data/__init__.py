"""Data sets on disk, augmentation, point sampling and loading.  Nothing here imports MXNet."""
