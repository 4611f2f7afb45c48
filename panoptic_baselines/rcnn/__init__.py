"""The two-stage detector of Panoptic FPN and the unified network: proposals, RoIs, heads."""
