"""Whatever a file holds, it is read right or refused in one sentence: no traceback.

By default each kind of file gets a second, with the same draws every time; nightly, `pytest -m slow` draws
new ones, many more.
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasters import write_raster
from safetensors.torch import save_file
from tiny import tiny_config, tiny_method

from pellucid.build.run import read_run, save_run
from pellucid.build.weights_file import read_state_dict
from pellucid.config import load_config
from pellucid.data.radar_picture import read_color, read_gray
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.raster import CloudRaster, OpticalRaster, RadarRaster
from pellucid.data.slice_file import read_info, read_slice
from pellucid.data.text_file import read_rows
from pellucid.data.tokenizer import read_tokenizer
from pellucid.datasets import sar_optical, sen12ms_cr
from pellucid.datasets._splits import read_splits
from pellucid.errors import InputError

CONFIG = Path(__file__).parents[1] / "configs" / "cross_attention_tiny.yaml"
QUICK, NIGHTLY = 40, 4000

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
# Edits of a file: where, and what is put there in place of how many bytes.
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=6), st.integers(0, 6)),
    min_size=1,
    max_size=4,
)
WORD = st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n"', exclude_categories=("Cs", "Cc")), max_size=9
)


def edited(content: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """Return the content after the edits; most fall into its first kilobyte, where headers are."""
    for place, new, num_old in edits:
        at = int(place * min(len(content), 1024 if len(new) % 2 else len(content)))
        content = content[:at] + new + content[at + num_old :]
    return content


def refusal_is_a_sentence(read: Callable[[], object]) -> None:
    """Call what reads a file; it may refuse it, in one line."""
    try:
        read()
    except InputError as error:
        text = str(error)
        assert text, "an error without words"
        assert len(text) < 2000, text


class Kind(NamedTuple):
    """What is drawn, how it becomes a file, and who reads it."""

    drawn: st.SearchStrategy[Any]
    check: Callable[[Path, Any], None]


def _raster(folder: Path, edits: Any) -> None:
    path = folder / "scene.tif"
    path.unlink(missing_ok=True)
    values = np.random.default_rng(0).integers(1, 4000, (13, 6, 5)).astype(np.uint16)
    write_raster(path, values, SENTINEL2.bands)
    path.write_bytes(edited(path.read_bytes(), edits))
    for kind in (
        lambda: OpticalRaster(path, SENTINEL2.bands),
        lambda: RadarRaster(path),
        lambda: CloudRaster(path),
    ):

        def read(kind: Callable[[], Any] = kind) -> None:
            with kind() as raster:
                raster.read_array(size=16)

        refusal_is_a_sentence(read)


DECORATIONS = (
    "{}",
    "{}_10m",
    "0_{}",
    "{}_median",
    "T33UUP_20200101T100000_{}",
    "{}, central wavelength 1 nm",
)


def _band_names(folder: Path, drawn: tuple[list[str], str, bool]) -> None:
    names, decoration, is_short = drawn
    texts = [decoration.format(name.replace("B0", "B") if is_short else name) for name in names]
    values = np.stack([np.full((3, 4), 1 + SENTINEL2.bands.index(name), np.float32) / 100 for name in names])
    write_raster(folder / "named.tif", values, tuple(texts))
    with OpticalRaster(folder / "named.tif", SENTINEL2.bands, allow_missing=SENTINEL2.bands) as raster:
        found = raster.read()[0][:, 0, 0].numpy()
    wanted = [(1 + i) / 100 if name in names else 0 for i, name in enumerate(SENTINEL2.bands)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def _slice(folder: Path, drawn: tuple[str, Any]) -> None:
    suffix, edits = drawn
    path = folder / f"slice{suffix}"
    values = np.arange(60, dtype=np.uint16).reshape(6, 10)
    (Image.fromarray(values).save if suffix == ".png" else lambda p: tifffile.imwrite(p, values))(path)
    path.write_bytes(edited(path.read_bytes(), edits))
    refusal_is_a_sentence(lambda: (read_info(path), read_slice(path)))
    refusal_is_a_sentence(lambda: read_gray(path))
    refusal_is_a_sentence(lambda: read_color(path))


def _checkpoint(folder: Path, drawn: tuple[str, Any]) -> None:
    form, edits = drawn
    path, weights = folder / f"net{form}", {"weight": torch.arange(6.0), "bias": torch.ones(2)}
    if form == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights}, path, _use_new_zipfile_serialization=form == ".pth")
    path.write_bytes(edited(path.read_bytes(), edits))
    refusal_is_a_sentence(lambda: read_state_dict(path))


def _run(folder: Path, drawn: tuple[dict[str, Any], Any]) -> None:
    metadata, edits = drawn
    run = folder / "run"
    if not run.is_dir():
        save_run(run, config=tiny_config(), method=tiny_method())
    path = run / "weights.safetensors"
    whole = path.read_bytes()
    known = {
        name: json.dumps(range_.__dict__) for name, range_ in (("optical", SENTINEL2), ("radar", SENTINEL1))
    }
    texts = {**known, "mean_spectrum": "null", **{key: json.dumps(value) for key, value in metadata.items()}}
    save_file({"x": torch.ones(1)}, path, texts)
    path.write_bytes(edited(path.read_bytes(), edits))
    refusal_is_a_sentence(lambda: read_run(run))
    path.write_bytes(whole)


def _config(folder: Path, drawn: tuple[Any, str, Any]) -> None:
    edits, key, value = drawn
    path = folder / "config.yaml"
    path.write_bytes(edited(CONFIG.read_bytes(), edits))
    refusal_is_a_sentence(lambda: load_config(path))
    values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    section, _, name = key.partition(".")
    values[section] = {**values.get(section, {}), name: value} if name else value
    path.write_text(json.dumps(values), encoding="utf-8")
    refusal_is_a_sentence(lambda: load_config(path))


def _table(folder: Path, drawn: tuple[list[list[str]], str, bool]) -> None:
    rows, delimiter, has_mark = drawn
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    path = folder / "list.csv"
    path.write_text(text.getvalue(), encoding="utf-8-sig" if has_mark else "utf-8", newline="")
    wanted = [[cell.strip() for cell in row] for row in rows]
    assert [row for _, row in read_rows(path, "the list")] == [row for row in wanted if any(row)]


def _lists(folder: Path, drawn: tuple[bytes, Any]) -> None:
    content, edits = drawn
    root = folder / "data"
    root.mkdir(exist_ok=True)
    good = b"1,s1,s2_cloudfree,s2_cloudy,a_p1.tif\n2,s1,s2_cloudfree,s2_cloudy,b_p1.tif\n"
    pairs = b"s1_fileName,s2_fileName,region\nr_000/s1_000/a.png,r_000/s2_000/a.png,arctic\n"
    for text in (content, edited(good, edits), edited(pairs, edits)):
        for name in ("data.csv", "data_r_000.csv", "index.csv"):
            (root / name).write_bytes(text)
        refusal_is_a_sentence(lambda: sen12ms_cr.find_patches(sen12ms_cr.Config(root=root)))
        refusal_is_a_sentence(lambda: sar_optical.list_samples(sar_optical.Config(root=root)))


def _json(folder: Path, drawn: tuple[Any, bytes]) -> None:
    value, content = drawn
    for text in (
        json.dumps(value).encode(),
        json.dumps({"splits": value, "sha256": value}).encode(),
        content,
    ):
        (folder / "file.json").write_bytes(text)
        refusal_is_a_sentence(lambda: read_splits(folder / "file.json", known=["a"]))
        refusal_is_a_sentence(lambda: read_tokenizer(folder / "file.json"))


CELLS = st.lists(st.lists(WORD, min_size=3, max_size=3), min_size=1, max_size=4)
KEYS = (
    "network",
    "method",
    "losses",
    "data",
    "train",
    "data.train",
    "data.tile",
    "data.augment",
    "train.betas",
)
METADATA = ("optical", "radar", "mean_spectrum", "autoencoders", "mean_colors", "tokenizer", "text", "more")
KINDS = {
    "raster": Kind(EDITS, _raster),
    "band names": Kind(
        st.tuples(
            st.lists(st.sampled_from(SENTINEL2.bands), min_size=2, max_size=13, unique=True),
            st.sampled_from(DECORATIONS),
            st.booleans(),
        ),
        _band_names,
    ),
    "slice": Kind(st.tuples(st.sampled_from([".png", ".tif"]), EDITS), _slice),
    "checkpoint": Kind(st.tuples(st.sampled_from([".pth", ".pt", ".safetensors"]), EDITS), _checkpoint),
    "run": Kind(st.tuples(st.dictionaries(st.sampled_from(METADATA), JSON), EDITS | st.just([])), _run),
    "config": Kind(st.tuples(EDITS, st.sampled_from(KEYS), JSON), _config),
    "table": Kind(st.tuples(CELLS, st.sampled_from(",;\t"), st.booleans()), _table),
    "lists": Kind(st.tuples(st.binary(max_size=60), EDITS), _lists),
    "json": Kind(st.tuples(JSON, st.binary(max_size=40)), _json),
}


def attempt(kind: Kind, folder: Path, num: int, *, anew: bool) -> None:
    """Check so many draws of a kind, new ones or the same every time."""

    @settings(
        max_examples=num,
        deadline=None,
        derandomize=not anew,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.drawn)
    def check(drawn: Any) -> None:
        kind.check(folder, drawn)

    check()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_any_file_is_read_right_or_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    attempt(KINDS[name], tmp_path, QUICK, anew=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_many_more_files_are_read_right_or_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    attempt(KINDS[name], tmp_path, NIGHTLY, anew=True)
