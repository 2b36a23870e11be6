"""The one error that is the user's to mend."""


class InputError(Exception):
    """Something in the user's input (a file, a column, a key) is wrong.

    The message names where (file, row, column or key), what was expected and what to do. The command line prints it
    without a traceback and exits with status 2.
    """
