"""The exception for errors that a user can fix."""


class AdaptisError(Exception):
    """An error that a user can cause and fix.

    The message is one sentence: what is wrong, where, and what to do.  The command line prints it
    without a traceback and exits with status 1.
    """
