import os
import signal
import tempfile
from pathlib import Path

import pytest

# Triton interprets GPU kernels on the CPU if this is set before it is first imported.
os.environ["TRITON_INTERPRET"] = "1"
# A thread per worker: more of them than cores wait for each other. And sums over other numbers of threads are
# rounded otherwise: processes that tests start would not agree with them to the last bit.
os.environ["OMP_NUM_THREADS"] = "1"
# What is tried out in tests is not remembered where a user's own trials are.
os.environ["PELLUCID_CACHE"] = str(Path(tempfile.gettempdir()) / "pellucid-tests")
# A shell lets what it starts in the background ignore Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing; PELLUCID_DATA names the folder of real data")
    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real images; `PELLUCID_DATA` names another folder."""
    return _existing(Path(os.environ.get("PELLUCID_DATA", REPOSITORY.parent / "shared" / "data")))


@pytest.fixture(scope="session")
def golden_folder(data_folder: Path) -> Path:
    """Inputs and outputs of the published modules, beside the real images."""
    return _existing(data_folder.parent / "golden")
