"""A web page on which people click objects and see their masks (``adaptis serve``).

``app`` answers HTTP requests, ``guard`` checks permissions, ``uploads`` reads uploaded images,
``sessions`` keeps the features of a few images, and ``worker`` runs each network in its own thread.
``networks`` and ``samples`` list the choices.  ``static`` is the page itself.
"""
