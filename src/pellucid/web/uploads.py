"""Uploads: received piece by piece, within limits, and kept until a job takes them."""

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import ClientDisconnect

from pellucid.data.files import make_folder
from pellucid.errors import explain
from pellucid.web.given_files import check_content, check_name
from pellucid.web.limits import GB, IDLE_S, LOOSE_S, MAX_LOOSE, RESERVE, Limits, RequestError


class Uploads:
    """Files that were sent and belong to no job yet: a folder each.

    Args:
        folder: holds them; what an earlier service left in it is removed.
        limits: on their size and time.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)

    async def receive(self, name: str, length: int | None, pieces: AsyncIterator[bytes]) -> str:
        """Keep a file and return by which name a job takes it; nothing is kept of one that is refused."""
        check_name(name)
        self._check_room(length)
        key = secrets.token_hex(8)
        folder = self.folder / key
        folder.mkdir()
        try:
            async with asyncio.timeout(self.limits.upload_seconds):
                await self._write(folder / name, pieces, length)
            await asyncio.to_thread(check_content, folder / name)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _as_refusal(error, name) from error
        return key

    async def _write(self, path: Path, pieces: AsyncIterator[bytes], length: int | None) -> None:
        size = 0
        with path.open("wb") as file:
            while True:
                try:
                    async with asyncio.timeout(IDLE_S):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                size += len(piece)
                if size > self.limits.upload_bytes:
                    raise self._too_large()
                self._check_disk(len(piece))
                await asyncio.to_thread(file.write, piece)
        if not size or (length is not None and size != length):
            raise RequestError(400, f"{path.name} came with {size:,} bytes, not whole; send it again")

    def _check_room(self, length: int | None) -> None:
        """Refuse a file that is too large, or for which there is no room; remove what nobody came for."""
        for each in self.folder.iterdir():
            if time.time() - each.stat().st_mtime > LOOSE_S + self.limits.upload_seconds:
                shutil.rmtree(each, ignore_errors=True)
        if sum(1 for _ in self.folder.iterdir()) >= MAX_LOOSE:
            raise RequestError(429, f"{MAX_LOOSE} files wait for a job; start one, or try again in an hour")
        if length is not None and length > self.limits.upload_bytes:
            raise self._too_large()
        self._check_disk(length or 0)

    def _check_disk(self, size: int) -> None:
        free = shutil.disk_usage(self.folder).free - RESERVE
        if free < size:
            raise RequestError(
                507, f"the disk has room for {max(0, free) / GB:.1f} GB more; delete results, or ask"
            )

    def _too_large(self) -> RequestError:
        most = f"{self.limits.upload_bytes / GB:.3g} GB"
        return RequestError(
            413, f"the file is larger than the {most} taken; copy it into the shared folder instead"
        )

    def name(self, key: str) -> str:
        """Return the name of the file of an upload."""
        return self.path(key).name

    def path(self, key: str) -> Path:
        """Return where the file of an upload lies until a job takes it."""
        folder = self.folder / key
        if not (key.isalnum() and key.isascii() and folder.is_dir()) or not (files := list(folder.iterdir())):
            raise RequestError(404, f"there is no upload {key[:40]!r}; send the file again")
        return files[0]

    def take(self, key: str, folder: Path) -> None:
        """Move an upload into the folder of a job."""
        file = self.path(key)
        make_folder(folder)
        file.rename(folder / file.name)
        file.parent.rmdir()


def _as_refusal(error: BaseException, name: str) -> BaseException:
    """Return what is said about an upload that failed; an error of ours stays."""
    if isinstance(error, TimeoutError):
        return RequestError(408, f"{name} came too slowly; copy it into the shared folder instead")
    if isinstance(error, ClientDisconnect):
        return RequestError(400, f"{name} broke off; send it again")
    if isinstance(error, OSError):
        return RequestError(507, f"{name} cannot be kept: {explain(error)}")
    return error
