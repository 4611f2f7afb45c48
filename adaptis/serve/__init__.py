"""A page on which people click objects and see their masks (``adaptis serve``).

``app`` answers HTTP, ``guard`` decides who may ask, ``uploads`` reads what they send, ``sessions``
remembers the features of a few images, and ``worker`` runs each network in a thread of its own.
``networks`` and ``samples`` say what there is to choose from.  ``static`` is the page itself.
"""
