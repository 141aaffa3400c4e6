"""The one error that a user can mend: bad input, said in one sentence."""


class InputError(ValueError):
    """Bad input from outside: a file, a config, an option.

    The message is one sentence: what was found, what was needed, the way out.
    The command line prints it without a traceback and exits with code 2.
    """
