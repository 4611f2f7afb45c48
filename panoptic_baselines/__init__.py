"""Gluon ports of four panoptic systems beside AdaptIS, a folder for each:

``panoptic_fpn`` (with Mask R-CNN), ``condinst``, ``dense_detections`` and ``unified``.  ``rcnn``
and ``fcos`` hold what exactly two of them share, ``layers`` what belongs to no system.
"""
