"""What the ports share: backbones, feature pyramids, anchors, boxes, RoI and semantic layers."""
