"""What the ports share and belongs to no system: backbones, pyramids, norms, boxes, resizing."""
