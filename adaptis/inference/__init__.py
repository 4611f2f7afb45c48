"""From a trained network and an image to objects."""
from adaptis.inference.predictor import Clicked, Predictor, load_predictor, predict
from adaptis.inference.settings import PRESETS, Settings

__all__ = ['PRESETS', 'Clicked', 'Predictor', 'Settings', 'load_predictor', 'predict']
