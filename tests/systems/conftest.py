from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import write_pairs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pairs of radar and optical pictures, which the tiny configs find by the name PICTURES."""
    folder = write_pairs(tmp_path_factory.mktemp("pictures"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICTURES", str(folder))
        yield folder
