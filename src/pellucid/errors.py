"""The one error that a user can correct: bad input, explained in one sentence.

Whatever reads files, options or configs raises it; docstrings name it only where the reason is not obvious.
"""

import difflib
import errno
import re
from pathlib import Path

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

# What libraries say where memory ran out: in these words, or in no others.
NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory", "bad_alloc"),
    *("failed to map segment from shared object", "can't start new thread"),
)
NO_ROOM = tuple(
    f"could not {what}" for what in ("create a primitive", "execute a primitive", "create a memory object")
)

# What other programs call our keys.
OTHER_NAMES = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "max_epochs": "epochs",
    "max_steps": "num_steps",
    "grad_clip": "clip_norm",
    "amp": "precision",
    "fp16": "precision",
    "gpus": "num_devices",
    "devices": "num_devices",
    "nproc_per_node": "num_devices",
    "nodes": "num_nodes",
    "nnodes": "num_nodes",
    "patience": "early_stopping",
    "accumulate_grad_batches": "accumulate",
    "gradient_accumulation_steps": "accumulate",
    "save_every": "checkpoint_every",
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


def refusal(error: OSError) -> InputError | None:
    """Return what the system refused as an error in one sentence; None if a user cannot mend it."""
    if error.errno not in WAYS_OUT:
        return None
    kind = WriteError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else InputError
    return kind(f"cannot read or write {error.filename or 'a file'}: {explain(error)}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of a GPU or of the machine, where a library says so in words alone."""
    is_said = str(error) in NO_ROOM or any(words in str(error) for words in NO_MEMORY)
    return isinstance(error, MemoryError) or (is_said and not isinstance(error, InputError))


def explain_memory(error: Exception, way_out: str) -> str:
    """Return the sentence about memory that ran out: what was found, in one line, and the way out."""
    found = str(error).partition("\n")[0]
    about = f" ({found})" if found else ""
    return f"memory is exhausted{about}; {way_out}"


def damaged(path: Path, error: Exception, way_out: str) -> InputError:
    """Return the error about a file that could not be read: it is damaged, unless memory ran out."""
    if is_out_of_memory(error):
        return InputError(explain_memory(error, f"close other programs, so that {path} can be read"))
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return InputError(f"{path} is damaged ({reason}), {way_out}")


def nearest(key: str, known: list[str]) -> str:
    """Return the end of a sentence about an unknown key: the nearest known one, or else all of them."""
    close = OTHER_NAMES.get(key)
    if close not in known:
        close = max(known, key=lambda name: _likeness(key, name), default=None)
        if close is None or not _is_near(key, close):
            close = None
    return f"; did you mean {close!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _likeness(key: str, name: str) -> float:
    """Return how alike two names are: their letters in common, and more for whole words in common."""
    letters = difflib.SequenceMatcher(None, name, key).ratio()
    return letters + len(_words(key) & _words(name)) / (1 + len(_words(key) | _words(name)))


def _is_near(key: str, name: str) -> bool:
    letters = difflib.SequenceMatcher(None, name, key).ratio()
    return letters >= (0.5 if len(key) <= 3 else 0.58) or any(map(str.isalpha, _words(key) & _words(name)))


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[\W_]+", name.lower()) if len(word) > 2}
