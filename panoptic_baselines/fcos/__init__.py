"""The dense detector FCOS (Tian et al. 2019), on which CondInst and dense detections are built."""
