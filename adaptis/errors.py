"""The one exception that means "the user can fix this", and the one warning about data."""


class AdaptisError(Exception):
    """Something a user can cause and mend.

    The message is one sentence: what was wrong, where, and what to do.  The
    command line prints it without a traceback and exits with status 1.
    """


class DataWarning(UserWarning):
    """Something odd about data, told in one sentence, that is got around.

    The command line prints the first one alone.
    """
