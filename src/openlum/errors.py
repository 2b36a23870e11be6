"""The one error that is the user's to mend."""


class InputError(Exception):
    """Something in the user's input (a file, a column, a key) is wrong.

    The message names where (file, row, column or key), what was expected and what to do. The command line prints it
    without a traceback and exits with status 2. It is one line: signs of keys, values and file names that are not printed are
    escaped.
    """

    def __init__(self, message: object) -> None:
        super().__init__("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(message)))
