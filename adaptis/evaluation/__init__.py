"""Measuring: PQ, AP and mIoU, one streaming accumulator each, and the COCO formats in and out."""
