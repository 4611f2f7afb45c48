"""Gluon ports of four other panoptic systems; Panoptic FPN with Mask R-CNN is the first."""
