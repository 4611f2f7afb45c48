"""The exception for errors that a user can fix, and the warning about data."""


class AdaptisError(Exception):
    """An error that a user can cause and fix.

    The message is one sentence: what is wrong, where, and what to do.  The command line prints it
    without a traceback and exits with status 1.  Whatever it quotes, it is one line that any
    terminal can print, of at most ``LONGEST`` characters.
    """

    LONGEST = 1200

    def __init__(self, message: object):
        printable = str(message).encode('utf-8', 'backslashreplace').decode('utf-8')
        line = ' '.join(printable.splitlines())
        if len(line) > self.LONGEST:
            line = f'{line[:self.LONGEST - 305]} ... {line[-300:]}'
        super().__init__(line)


class DataWarning(UserWarning):
    """One sentence about a fault in the data that does not stop the program.

    The command line prints only the first one of each class.
    """


class MatchWarning(DataWarning):
    """Images of two files are not matched by their ids."""
