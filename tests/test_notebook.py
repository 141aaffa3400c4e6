"""The notebook in docs runs from top to bottom, on a STAC Item on this machine."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from scenes import write

from pellucid.data.ranges import SENTINEL1
from pellucid.data.spectrum import SPECTRA
from pellucid.simulate.pairs import simulate_pairs

NOTEBOOK = Path(__file__).parents[1] / "docs" / "xarray.ipynb"


def write_item(path: Path, raster: Path, names: list[str]) -> None:
    """Write a STAC Item with a file for each band."""
    with rasterio.open(raster) as file:
        values = file.read()
    properties = {"start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2020-01-01T00:00:00Z"}
    item = pystac.Item(path.stem, None, None, None, properties)
    for name, band in zip(names, values, strict=True):
        write(path.parent / path.stem / f"{name}.tif", band[None])
        item.add_asset(name, pystac.Asset(f"./{path.stem}/{name}.tif", roles=["data"]))
    path.write_text(json.dumps(item.to_dict(include_self_link=False)))


def test_the_notebook_runs_and_stores_no_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_pairs(tmp_path / "pairs", count=1, size=128, seed=0)
    (optical,), (radar,) = ([*(tmp_path / "pairs" / name).iterdir()] for name in ("s2_cloudy", "s1"))
    write_item(tmp_path / "item.json", optical, [each.common_name for each in SPECTRA.values()])
    write_item(tmp_path / "radar.json", radar, [name.lower() for name in SENTINEL1.bands])
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names = dict[str, Any]()
    for cell in cells:
        assert not cell["outputs"]
        exec("".join(cell["source"]), names)
    assert 0 < names["share"] < 1
    assert np.isfinite(float(names["ndvi"].mean()))
    with rasterio.open(tmp_path / "clear.tif") as file:
        assert (file.count, file.shape) == (13, (128, 128))
