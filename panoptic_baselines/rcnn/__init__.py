"""The two-stage detector of Panoptic FPN and of the unified network: proposals, RoIs, heads."""
