"""What stands between the graphs of each network, in NumPy: from dense maps to objects and masks.

Nothing here loads MXNet.  A network is whatever runs its stages by name and has a few numbers: the
``HybridBlock`` itself (``panoptic_baselines.staged``), or files that it was exported to
(``exported.py``).
"""
