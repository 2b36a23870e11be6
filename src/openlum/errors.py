"""The error for mistakes in the user's input."""


class InputError(Exception):
    """Something in the user's input (a file, a column, a key) is wrong.

    The message names the place (file, row, column or key), the expected value and the remedy. The command line prints it
    without a traceback and exits with status 2. The message is one line: unprintable characters of keys, values and file
    names are escaped.
    """

    def __init__(self, message: object) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message)))
