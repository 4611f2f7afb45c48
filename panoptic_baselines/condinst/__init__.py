"""CondInst (Tian et al., Instance and Panoptic Segmentation Using Conditional Convolutions).

Section numbers are those of the journal text (arXiv 2102.03026), which extends "Conditional
Convolutions for Instance Segmentation" of 2020.
"""
