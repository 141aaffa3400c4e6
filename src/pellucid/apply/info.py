"""What made a result, and what a run folder or a product holds, for people and for scripts."""

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pellucid.data.digests import check_tensors, digest_weights_file
from pellucid.data.files import check_input
from pellucid.data.gdal_open import open_raster
from pellucid.data.geotiff import Raster
from pellucid.data.ownership import PREFIX, read_tags
from pellucid.data.run_folder import CONFIG, WEIGHTS, describe, find_run, shipped_runs
from pellucid.data.safe_product import is_product, read_product
from pellucid.data.schema import read_yaml
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError

# What a result says, in the order in which it is shown.
SHOWN = ("command", "layer", "model", "weights", "version", "seed", "options", "inputs")
# Of the name of a product, and of its metadata.
_TILE, COVER = re.compile(r"_(T\d\d[A-Z]{3})_"), "Cloud_Coverage_Assessment"


def inform(path: Path) -> dict[str, Any]:
    """Return what made a result, or what a product or a run folder holds; a model that ships by its name.

    Raises:
        InputError: if it is none of them, or a result of a version that did not say what made it.
    """
    if is_product(path):
        return _inform_of_product(path)
    if path.is_dir() or (not path.exists() and str(path) in shipped_runs()):
        return _inform_of_run(find_run(str(path)))
    check_input(path, "result")
    tags = read_tags(path)
    found = {
        name.removeprefix(PREFIX).lower(): text for name, text in tags.items() if name.startswith(PREFIX)
    }
    if not found:
        said = "was written by pellucid, but does not say how" if tags else "was not written by pellucid"
        raise InputError(
            f"{path} {said}; name a result, a Sentinel-2 product, a run folder or a model that ships"
        )
    for name in ("options", "inputs"):
        with suppress(KeyError, ValueError):  # not there, or changed by others
            found[name] = parse_json(found[name])
    return {"file": str(path), **{name: found[name] for name in SHOWN if name in found}, **found}


def in_lines(found: Mapping[str, Any]) -> list[str]:
    """Return what `inform` found as lines of text, what is nested in its own lines."""
    lines = list[str]()
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *(f"  {key:<18} {_in_words(each)}" for key, each in value.items())]
        else:
            lines.append(f"{name:<9} {_in_words(value)}")
    return lines


def in_labels(path: Path) -> dict[str, str]:
    """Return what made a result, label by label, for a page; {} if it does not say so."""
    try:
        found = inform(path)
    except InputError:
        return {}
    labels = {}
    for name, value in found.items():
        parts = value.items() if isinstance(value, dict) else ()
        words = "; ".join(f"{key} {_in_words(each)}" for key, each in parts) or _in_words(value)
        labels[name.capitalize()] = words
    return {label: words for label, words in labels.items() if label not in ("File", "Layer")}


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _inform_of_product(path: Path) -> dict[str, Any]:
    """Return level, baseline, place, date and bands of a product, and the command that restores it."""
    product = read_product(path)
    with Raster(path, "product") as raster:  # which finds files that are damaged
        grid = str(raster.grid)
    uri = product.tags["PRODUCT_URI"]
    tile = _TILE.search(uri)
    bands = {}
    for band in product.bands:
        scale, offset = band.scale or 1, band.offset or 0
        with open_raster(band.source) as file:
            bands[band.name] = {"metres": round(file.res[0]), "offset": round(offset / scale)}
    masks = {"classes": product.classes, "probability": product.probability}
    found = {
        "file": str(path),
        "product": uri,
        "level": product.tags.get("PROCESSING_LEVEL"),
        "baseline": product.tags.get("PROCESSING_BASELINE"),
        "satellite": product.about.get("SPACECRAFT_NAME"),
        "tile": tile[1] if tile else None,
        "date": product.tags.get("PRODUCT_START_TIME"),
        "clouds": f"{float(percent):.4g} %" if (percent := product.about.get(COVER)) else None,
        "grid": grid,
        "values": f"reflectance = (digital number + offset) / {1 / (product.bands[0].scale or 1):g}",
        "bands": bands,
        "masks": [name for name, source in masks.items() if source],
        "use": f"pellucid remove-clouds {shlex.quote(str(path))} -o clear.tif",
    }
    return {name: value for name, value in found.items() if value is not None}


def _inform_of_run(folder: Path) -> dict[str, Any]:
    """Return the name of a run, the digest of its weights, and what its config says of the method."""
    said = describe(folder.resolve())
    try:
        check_tensors(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{folder / WEIGHTS} is damaged ({reason}), save or download the run again"
        ) from error
    config = read_yaml(folder / CONFIG)
    parts = (config.get(key) for key in ("method", "network"))
    method, network = (part if isinstance(part, dict) else {} for part in parts)
    found: dict[str, Any] = {"folder": str(folder), "model": said.name, "about": said.about}
    found |= {"megabytes": said.size_mb, "licence": said.licence}
    found |= {"weights": digest_weights_file(folder / WEIGHTS)}
    found |= {"method": method.get("name"), "network": network.get("name")}
    found |= {"optical": method.get("optical"), "radar": method.get("radar"), "steps": method.get("steps")}
    return {key: value for key, value in found.items() if value}
