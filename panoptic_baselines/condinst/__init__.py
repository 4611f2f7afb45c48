"""CondInst (Tian et al., Instance and Panoptic Segmentation Using Conditional Convolutions).

The paper of 2021 extends "Conditional Convolutions for Instance Segmentation" of 2020.
"""
