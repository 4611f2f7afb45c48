"""The dense detector FCOS (Tian et al. 2019), which CondInst and dense detections build on."""
