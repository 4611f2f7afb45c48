"""The one-stage detector of CondInst and of dense detections: FCOS (Tian et al., 2019)."""
