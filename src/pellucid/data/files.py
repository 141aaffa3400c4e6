"""Output files and folders: checked before any work is done, and written whole or not at all."""

import hashlib
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pellucid.errors import WAYS_OUT, InputError, WriteError, counted, explain

# Permissions of every file that is written: everyone may read, the owner may write.
MODE = 0o644
# What the name of a temporary file has after that of the file which it becomes, before random characters.
TEMPORARY, NUM_RANDOM = ".pellucid-", 8
# What the names of files end in, which a folder of results is called by mistake alone.
OF_FILES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".html", ".json", ".csv", ".npy", ".yaml", ".zip"),
    *(".ckpt", ".pt", ".safetensors", ".onnx"),
)
# Bytes of the longest name that file systems take.
LONGEST_NAME = 255


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path in the folder of `path`, flush, and rename the result to `path`."""
    with temporary_beside(path) as temporary:
        try:
            write(temporary)
            temporary.chmod(MODE)  # safetensors makes files that only their owner can read
            flush(temporary)
            temporary.replace(path)
        except OSError as error:
            if error.errno in WAYS_OUT:
                raise WriteError(f"cannot write {path}: {explain(error)}") from error
            raise


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file in the folder of `path`, deleted afterwards unless it was renamed.

    A missing folder is made, and removed again if it stays empty.
    """
    check_writable(path)
    with ExitStack() as stack:
        stack.enter_context(made_folder(path.parent))
        try:
            prefix = _temporary_prefix(path)
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
            os.close(handle)
            Path(name).chmod(MODE)
        except OSError as error:
            raise WriteError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        stack.callback(Path(name).unlink, missing_ok=True)
        yield Path(name)


def beside(path: Path, ending: str, *, room: int = 0) -> Path:
    """Return the hidden path beside `path` that belongs to it: its name with an ending.

    Where that would be too long, with `room` bytes to follow, a digest stands for the end of the name.
    """
    longest, name = LONGEST_NAME - len(os.fsencode(f".{ending}")) - room, os.fsencode(path.name)
    if len(name) > longest:
        digest = hashlib.sha256(name).hexdigest()[:NUM_RANDOM]
        name = os.fsencode(name[: longest - NUM_RANDOM].decode(errors="ignore") + digest)
    return path.with_name(f".{os.fsdecode(name)}{ending}")


def stands_for(path: Path) -> Path:
    """Return the path of which this is a hidden working or temporary file, or else this path."""
    temporary = rf"{re.escape(TEMPORARY)}.{{{NUM_RANDOM}}}(?:\..*)?"
    found = re.fullmatch(rf"\.(.+?)(?:\.partial\..+|{temporary})", path.name)
    return path.with_name(found[1]) if found else path


def clear_orphans(path: Path) -> None:
    """Remove the temporary files of `path`, which nobody else writes: a killed run left them."""
    prefix = _temporary_prefix(path)
    for each in list(path.parent.iterdir()):
        if each.name.startswith(prefix):
            each.unlink(missing_ok=True)


def _temporary_prefix(path: Path) -> str:
    return beside(path, TEMPORARY, room=NUM_RANDOM + len(os.fsencode(path.suffix))).name


def check_writable(path: Path) -> None:
    """Refuse an output path that is a folder, or whose folder is read-only or cannot be made."""
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    _check_takes(path.parent, path)


def existing_folder(folder: Path) -> Path:
    """Return the folder, or where it is still to be made, the nearest one above it."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _check_takes(folder: Path, path: Path) -> None:
    """Refuse an output path that is not on this machine, or whose folder, there or not, cannot hold it."""
    _refuse_remote_output(path)
    there = existing_folder(folder)
    if not there.is_dir():
        raise InputError(f"cannot write {path}: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {path}: the folder {there} is read-only; choose another")


def flush(path: Path, *, forget: bool = False) -> None:
    """Wait until the file's content is on the disk; with `forget`, it is next read from there, not memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        if forget and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it."""
    _refuse_remote_output(folder)
    if not (there := existing_folder(folder)).is_dir():
        raise InputError(f"cannot make the folder {folder}: {there} is a file; choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and those above it where they are missing; those that stay empty go again."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        make_folder(folder)
        yield
    finally:
        with suppress(OSError):  # it is not empty
            for each in made:
                each.rmdir()


def check_folder(folder: Path, source: Path, *, reason: str) -> None:
    """Refuse an output folder that cannot be made or written to, or that is the input folder `source`.

    It is not made here. `reason` says why a folder is needed, for the message if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write {folder}: it is a file, and {reason}; name a folder")
    if folder.resolve() == source.resolve():
        raise InputError(f"cannot write {folder}: it is the input; name another folder")
    check_folder_name(folder, reason)
    _check_takes(folder, folder)


def check_folder_name(folder: Path, reason: str = "a folder of results is to be made") -> None:
    """Refuse to make an output folder that has the name of a file, or lies in one that would have it."""
    for each in (folder, *folder.parents):
        if not each.exists() and each.suffix.lower() in OF_FILES:
            raise InputError(
                f"cannot write {each}: by its name it is a file, and {reason}; name a folder, such as "
                f"{each.with_suffix('')}"
            )


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def check_input(path: Path, what: str) -> None:
    """Refuse an input that is not there, or that cannot be opened again and again, such as a pipe.

    `what` it is to the user, "optical scene". A folder may be one.
    """
    _refuse_remote(path, f"the {what} ")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"the {what} {path} does not exist, check the path") from error
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {explain(error, 'check the path')}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"the {what} {path} is a pipe or device, no file; save it as one")


def check_exists(path: Path, way_out: str) -> None:
    """Refuse an input that is neither a file nor a folder; the way out is for the end of the sentence."""
    _refuse_remote(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; {way_out}")


def check_is_file(path: Path) -> None:
    """Refuse an input that is no file."""
    _refuse_remote(path)
    if not path.is_file():
        raise InputError(f"{path} is no file, check the path")


def check_is_folder(folder: Path) -> None:
    """Refuse an input that is no folder."""
    _refuse_remote(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name a folder of data")


def glob_files(root: Path, pattern: str) -> list[Path]:
    """Return the files below `root` that fit a pattern as of `Path.glob`, sorted.

    The case of the suffix does not matter (".TIF"). Hidden files and folders, which systems leave behind
    ("._a.tif"), are left out.
    """
    try:
        found = only_files(root.glob(with_any_suffix(pattern)))
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{pattern!r} is no pattern ({error}), use one such as '**/*.tif'") from error
    return [path for path in found if not is_hidden(path, root)]


def only_files(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that are files, sorted.

    Warnings name links among the others that lead nowhere, and pipes and devices, which are not read.
    """
    found = sorted(paths)
    files = [path for path in found if path.is_file()]
    others = sorted(
        path for path in set(found).difference(files) if path.name[0] != "." and not path.is_dir()
    )
    if broken := [path for path in others if path.is_symlink() and not path.exists()]:
        more = f" and {counted(len(broken) - 1, 'other link')}" if len(broken) > 1 else ""
        leads = "lead to no file and count" if more else "leads to no file and counts"
        warnings.warn(f"{broken[0]}{more} {leads} as missing; mend or delete such links", stacklevel=1)
    if odd := [path for path in others if path not in broken and path.exists()]:
        end = "is a pipe or device and is left out; save it as a file"
        if len(odd) > 1:
            more = counted(len(odd) - 1, "other")
            end = f"and {more} are pipes or devices and are left out; save them as files"
        warnings.warn(f"{odd[0]} {end}", stacklevel=1)
    return files


def with_any_suffix(pattern: str) -> str:
    """Return the pattern with a suffix whose case does not matter."""
    body, dot, suffix = pattern.rpartition(".")
    if not dot or not suffix.isalnum():
        return pattern
    return body + dot + "".join(f"[{each.lower()}{each.upper()}]" for each in suffix)


def is_hidden(path: Path, root: Path) -> bool:
    """Whether the file, or a folder between it and the root, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _refuse_remote(path: Path, name: str = "") -> None:
    """Refuse a URL, or a path into an archive as GDAL writes them."""
    if typed := _typed_remote(path):
        raise InputError(
            f"{name}{typed} is no file on this machine, and only such are read; download or unpack it"
        )


def _refuse_remote_output(path: Path) -> None:
    if typed := _typed_remote(path):
        raise InputError(f"cannot write {typed}: it is no path on this machine; name one, and copy it then")


def _typed_remote(path: Path) -> str:
    """Return a URL, or a path as GDAL writes them, as it was typed; "" of a path on this machine."""
    if not re.match(r"/vsi|\w\w+:/", path.as_posix()):
        return ""
    return re.sub(r"\b(\w\w+):/(?!/)", r"\1://", path.as_posix())  # what a path has lost of a URL
