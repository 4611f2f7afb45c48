"""Five panoptic systems on the same street scenes, trained and measured alike."""
