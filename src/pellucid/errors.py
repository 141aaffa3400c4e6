"""The one error that a user can correct: bad input, explained in one sentence.

Whatever reads files, options or configs raises it; docstrings name it only where the reason is not obvious.
"""

import errno

# How a user mends what the system refuses, by the number of the error.
WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free the disk or choose another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its permissions or choose another"),
    errno.EROFS: "choose another folder",
    errno.EIO: "check the disk, and whether it is full",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "choose another name",
    errno.EFBIG: "choose another disk",
}


class InputError(ValueError):
    """Bad input from outside: a file, a config, an option.

    The message is one sentence: what was found, what was needed, the way out.
    The command line prints it without a traceback and exits with code 2.
    """


class WriteError(InputError):
    """A result could not be written, and what follows in the same place could not be either."""


def counted(number: int, what: str) -> str:
    """Return a number of things in words: "1 band", "2 bands"."""
    return f"{number} {what}{'s' * (number != 1)}"


def explain(error: OSError, other: str = "free the disk or choose another folder") -> str:
    """Return what the system refused, and how to mend it, for the end of a sentence; `other` is how else."""
    return f"{error.strerror or error}; {WAYS_OUT.get(error.errno or 0, other)}"
