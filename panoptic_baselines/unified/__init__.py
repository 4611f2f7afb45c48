"""Unifying Training and Inference for Panoptic Segmentation (Li, Qi and Torr, 2020)."""
