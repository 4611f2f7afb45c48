"""Real-Time Panoptic Segmentation from Dense Detections (Hou et al., 2020)."""
