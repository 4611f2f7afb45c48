"""Panoptic FPN and Mask R-CNN (Kirillov et al., Panoptic Feature Pyramid Networks, 2019)."""
