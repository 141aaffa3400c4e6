"""What the service takes: sizes, counts, times; and the error for what it refuses."""

from dataclasses import dataclass

from pellucid.errors import InputError

MB, GB = 10**6, 10**9
# Bytes of the disk that uploads leave free.
RESERVE = GB
# Bytes of the largest request that is no upload; seconds in which its head, and then its body, must come.
MAX_REQUEST, HEAD_S, REQUEST_S = 100_000, 15.0, 30.0
# Seconds within which more of an upload must come.
IDLE_S = 30.0
# Files that one job is given, and characters of its name and of an option.
MAX_FILES, MAX_TEXT = 500, 300
# Uploads that belong to no job yet, and seconds after which such a one is removed.
MAX_LOOSE, LOOSE_S = 1000, 3600.0
# Connections at once; each open page holds one.
MAX_CONNECTIONS = 200


@dataclass(frozen=True)
class Limits:
    """What one service takes.

    Attributes:
        upload_bytes: of one file.
        upload_seconds: in which a file must come.
        waiting: jobs that wait or run.
        kept: jobs in all, with those that ended.
        job_seconds: that one job may run.
    """

    upload_bytes: float = 4 * GB
    upload_seconds: float = 3600.0
    waiting: int = 20
    kept: int = 200
    job_seconds: float = 6 * 3600.0


class RequestError(InputError):
    """A request that is refused in one sentence, with a status of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
