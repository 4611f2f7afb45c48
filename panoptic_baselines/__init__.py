"""Gluon ports of four other panoptic systems; they come in later releases."""
