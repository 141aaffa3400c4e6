from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from rasters import write_raster

from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.errors import InputError
from pellucid.evaluation.reference import read_reference
from pellucid.methods.method import Method

METHOD = cast(Method, SimpleNamespace(optical=SENTINEL2, radar=SENTINEL1, scale=1, task="restore"))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_clear_sources_lie_under_the_clouds_of_their_seed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(200, 1500, (13, 32, 32)).astype(np.uint16)
    write_raster(tmp_path / "s2" / "a.tif", values, SENTINEL2.bands)
    scenes = f"{{name: guided_scenes, root: {tmp_path / 's2'}}}"
    clear = f"{{name: clear_scenes, root: {tmp_path / 's2'}, simulate: 1}}"
    path = write(tmp_path / "sources.yaml", f"sources:\n- {scenes}\n- {clear}\n- {clear}\n")
    images: Any = read_reference(METHOD, path)
    assert images.keys == ("a", "a", "a")
    first, second, third = (images[i] for i in range(3))
    assert torch.equal(second.degraded, third.degraded)
    assert not torch.equal(first.degraded, second.degraded)
    torch.testing.assert_close(first.target, second.target)
    with pytest.raises(IndexError):
        images[3]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1", "no list of sources"),
        ("sources: []", "no list of sources"),
        ("sources: [{root: x}]", "source 1 has no name"),
        ("sources: [{name: clear_scenes, root: x, simulate: often}]", "simulate is 'often'"),
        ("sources: [{name: clear_scenes, root: x, ofset: 1}]", "ofset"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        read_reference(METHOD, write(tmp_path / "sources.yaml", text))
