"""The exception for errors that a user can fix, and the warnings about data."""


class AdaptisError(Exception):
    """An error that a user can cause and fix.

    The message is one sentence: what is wrong, where, and what to do.  The command line prints it
    without a traceback and exits with status 1.  It is a single printable line of at most
    ``LONGEST`` characters, whatever it quotes.
    """

    LONGEST = 1200

    def __init__(self, message: object):
        printable = str(message).encode('utf-8', 'backslashreplace').decode('utf-8')
        line = ' '.join(printable.splitlines())
        if len(line) > self.LONGEST:
            line = f'{line[:self.LONGEST - 305]} ... {line[-300:]}'
        super().__init__(line)


class DataWarning(UserWarning):
    """One sentence about a problem in the data that does not stop the program.

    The command line prints only the first one of each class.
    """


class MatchWarning(DataWarning):
    """The images of two files are matched by name instead of by id."""
