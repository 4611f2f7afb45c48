"""Five panoptic systems on the same street scenes, trained and evaluated in the same way."""
