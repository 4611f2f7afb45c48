"""What the ports share and has no system in it: backbones, pyramids, norms, boxes, resizing."""
