"""Building blocks that the ports share: backbones, pyramids, norms, boxes, resizing."""
