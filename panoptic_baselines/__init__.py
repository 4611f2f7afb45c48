"""Gluon ports of four panoptic systems beside AdaptIS, each in its own package.

They are ``panoptic_fpn`` (with Mask R-CNN), ``condinst``, ``dense_detections`` and ``unified``.
``rcnn`` and ``fcos`` hold code that exactly two of them share.  ``layers`` holds building blocks
that are not tied to a system.
"""
