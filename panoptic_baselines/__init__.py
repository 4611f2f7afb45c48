"""Gluon ports of four panoptic systems beside AdaptIS, each in its own package.

They are ``panoptic_fpn`` (with Mask R-CNN), ``condinst``, ``dense_detections`` and ``unified``.
``rcnn`` and ``fcos`` hold what exactly two of them share, ``layers`` what belongs to no system.
"""
