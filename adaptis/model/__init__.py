"""Networks by name, and their files."""
from adaptis.model.adaptis import AdaptIS
from adaptis.model.zoo import MODELS, get_model, load_model, save_model

__all__ = ['MODELS', 'AdaptIS', 'get_model', 'load_model', 'save_model']
