"""Evaluation: streaming accumulators of PQ, AP and mIoU, and the COCO formats."""
