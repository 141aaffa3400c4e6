"""One owner per output: a file or a folder is claimed by an advisory lock before any work on it.

The lock is a hidden file, `.NAME.lock` beside a file and `.pellucid.lock` in a folder, which goes with the
claim. That of a killed run stays, but holds nobody up. A folder is not claimed while another process holds a
file in it, nor such a file while it holds the folder.
"""

import errno
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from pellucid.data.files import (
    TEMPORARY,
    beside,
    check_folder_name,
    check_writable,
    clear_orphans,
    made_folder,
)
from pellucid.errors import InputError

LOCK = ".pellucid.lock"
# What a lock says that another process holds.
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def claim_files(*paths: Path | None) -> Iterator[None]:
    """Hold these files, those that are None left out, and remove what killed runs left of them.

    Their folders are made where they are missing, and removed again if they stay empty.

    Raises:
        InputError: if another run holds one, or it cannot be written.
    """
    wanted = [path for path in paths if path]
    for path in wanted:
        check_writable(path)
    real = {path.parent.resolve() / path.name for path in wanted}
    with ExitStack() as stack:
        for folder in sorted({path.parent for path in real}):
            stack.enter_context(made_folder(folder))
        for path in sorted(real):
            stack.enter_context(_locked(beside(path, ".lock"), path))
            for folder in path.parents:
                _refuse_held(folder / LOCK, path, f"into {folder}")
            clear_orphans(path)
        yield


@contextmanager
def claim_folders(*folders: Path | None) -> Iterator[None]:
    """Hold these folders, those that are None left out, and remove what killed runs left in them.

    They are made where they are missing, and removed again if they stay empty.

    Raises:
        InputError: if another run holds one, it cannot be written, or is to be made with the name of a file.
    """
    for folder in folders:
        if folder:
            check_folder_name(folder)
    with ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders if folder}):
            stack.enter_context(made_folder(folder))
            stack.enter_context(_locked(folder / LOCK, folder))
            _clear(folder)
        yield


def is_held(folder: Path) -> bool:
    """Return whether a run, perhaps this one, holds a folder."""
    try:
        file = (folder / LOCK).open("r+", encoding="utf-8")
    except OSError:  # nobody has it
        return False
    with file:
        return not _lock(file, folder)


def _clear(folder: Path) -> None:
    """Remove temporary files in a folder and those below it, except in folders where another run is at work.

    Raises:
        InputError: if another run holds one of the files.
    """
    for place, folders, names in os.walk(folder):
        if Path(place) != folder and LOCK in names:
            folders.clear()
            continue
        for name in names:
            if name.startswith(".") and name.endswith(".lock") and name != LOCK:
                _refuse_held(Path(place, name), folder, "a file in it")
            final, is_temporary, _ = name.partition(TEMPORARY)
            if is_temporary and name.startswith(".") and f"{final}.lock" not in names:
                Path(place, name).unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path, output: Path) -> Iterator[None]:
    """Hold the lock, whose file is there as long as it is held."""
    file = _open(lock, output)
    while not _is_at(file, lock):  # its holder has just removed it
        file.close()
        file = _open(lock, output)
    with file:
        with suppress(OSError):
            file.truncate(0)
            file.write(f"{_this_process()}, since {time.strftime('%H:%M:%S')}")
            file.flush()
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink(missing_ok=True)


def _open(lock: Path, output: Path) -> IO[str]:
    """Return the open file of a lock that nobody else holds."""
    try:
        file = lock.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}; choose another place") from error
    if _lock(file, output):
        return file
    with file:
        raise _is_taken(output, "it", _owner(file))


def _refuse_held(lock: Path, output: Path, what: str) -> None:
    """Refuse an output while another process than this holds a lock, by which it writes `what`."""
    try:
        file = lock.open("r+", encoding="utf-8")
    except OSError:  # nobody has it
        return
    with file:
        if not _lock(file, output) and not (owner := _owner(file)).startswith(_this_process()):
            raise _is_taken(output, what, owner)


def _is_taken(output: Path, what: str, owner: str) -> InputError:
    return InputError(
        f"cannot write {output}: another run is writing {what}"
        f"{f' ({owner})' if owner else ''}; wait for its end, or choose another output"
    )


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _owner(file: IO[str]) -> str:
    """Return what the holder of a lock has written into it."""
    file.seek(0)
    return file.read(200)


def _is_at(file: IO[str], lock: Path) -> bool:
    """Whether the open file is still that at the path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except OSError:
        return False


def _lock(file: IO[str], output: Path) -> bool:
    """Lock an open file until it is closed; return whether nobody else holds it."""
    try:
        try:
            import fcntl
        except ImportError:  # on Windows
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        warnings.warn(
            f"the file system of {output} has no locks ({error.strerror}); let no other run write there",
            stacklevel=2,
        )
    return True
