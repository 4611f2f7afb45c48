"""Inference: from a trained network and an image to objects."""
from adaptis.inference.predictor import ClickResult, Predictor
from adaptis.inference.settings import PRESETS, AdaptISSettings

__all__ = ['PRESETS', 'AdaptISSettings', 'ClickResult', 'Predictor']
