"""From a trained network and an image to objects."""
