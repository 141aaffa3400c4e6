"""The one error that a user can correct: bad input, explained in one sentence.

Whatever reads files, options or configs raises it; docstrings name it only where the reason is not obvious.
"""


class InputError(ValueError):
    """Bad input from outside: a file, a config, an option.

    The message is one sentence: what was found, what was needed, the way out.
    The command line prints it without a traceback and exits with code 2.
    """
