"""A run as ONNX, for other programs: checked with onnxruntime, and described for QGIS and for STAC."""

import importlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from pellucid.build.method import load
from pellucid.build.onnx_graph import PREVIEW_TILE, Graph, Port, PreviewGraph, graph_of
from pellucid.data.claims import claim_files
from pellucid.data.digests import read_digest
from pellucid.data.files import write_atomically, write_text
from pellucid.data.ownership import SOFTWARE, is_ours
from pellucid.data.run_folder import WEIGHTS, describe, find_run
from pellucid.errors import InputError
from pellucid.methods.method import Method, result_range

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# A note of torch for its own sake, in an order of its sets: with it, two exports of one model would differ.
UNORDERED = "pkg.torch.export.ExportedProgram.range_constraints"
# Largest difference from torch, in [0, 1].
TOLERANCE = 1e-4
# The size that is traced, and sizes that are checked: images, and units of height and width.
TRACED, CHECKED = (2, 16, 12), ((1, 16, 12), (2, 9, 17))
# Sentinel-2's pixel in cm, and by how much of a tile Deepness lets neighbours overlap, in percent.
PIXEL_CM, OVERLAP_PERCENT = 1000, 25
MLM, PROCESSING = (
    f"https://stac-extensions.github.io/{name}/schema.json" for name in ("mlm/v1.5.0", "processing/v1.2.0")
)
# STAC wants a time, but a model has none and may be used at any: so two exports of one are equal.
ANY_TIME = {
    "datetime": None,
    "start_datetime": "1900-01-01T00:00:00Z",
    "end_datetime": "9999-12-31T23:59:59Z",
}


class Exported(NamedTuple):
    """The files that were written, and the largest difference from torch."""

    model: Path
    stac: Path
    deepness: Path | None
    difference: float


def export(
    model: str, out: Path, *, deepness: bool = False, progress: Callable[[int, int], None] | None = None
) -> Exported:
    """Write a model as ONNX, of dynamic size, with a STAC item beside it.

    The model is written last: what lies beside no model was left by a run that ended early, and is replaced.

    Args:
        model: a run folder, or a model that ships.
        out: the .onnx file; one that is there is not replaced.
        deepness: write the preview for QGIS's plugin Deepness too: 8 bit, tiles of one size.
        progress: called with the parts that are done, and all.

    Raises:
        InputError: if the model cannot be exported, or its ONNX differs from torch.
    """
    check_packages()
    stac = out.with_suffix(".json")
    preview = out.with_name(f"{out.stem}_deepness_8bit_preview.onnx") if deepness else None
    folder, total = find_run(model), 1 + deepness
    with claim_files(out, stac, preview):
        check_new(out, stac, preview)
        method = load(folder, device="cpu")
        graph = graph_of(method)
        facts = _facts(folder, graph)
        if progress:
            progress(0, total)
        with _none_without(out, stac, preview):
            if preview:
                _write_preview(preview, graph, method, facts)
                if progress:
                    progress(1, total)
            write_text(stac, json.dumps(stac_item(folder, out, graph, method), indent=1) + "\n")
            examples = [graph.example(size) for size in (TRACED, *CHECKED)]
            difference = _write(out, graph.module, examples, facts, graph)
    return Exported(out, stac, preview, difference)


@contextmanager
def _none_without(out: Path, *beside: Path | None) -> Iterator[None]:
    """Remove what lies beside a model that was not written, for an error or a stop."""
    try:
        yield
    finally:
        if not out.exists():
            for path in filter(None, beside):
                path.unlink(missing_ok=True)


def check_packages() -> None:
    """Refuse to export where a package that it needs is missing."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"export needs the package {name}, install it: pip install 'pellucid[onnx]'"
            ) from error


def check_new(out: Path, *beside: Path | None) -> None:
    """Refuse a model that is there already or not called .onnx, and files beside it that are not ours."""
    if out.suffix != ".onnx":
        raise InputError(f"{out} must end in .onnx; choose such a name")
    for path in (out, *beside):
        if path and path.exists() and (path == out or not is_ours(path)):
            raise InputError(f"{path} is there already, and an export replaces nothing; choose another name")


def _write(
    path: Path,
    module: nn.Module,
    examples: list[dict[str, Tensor]],
    facts: dict[str, str],
    graph: Graph | None = None,
) -> float:
    """Write an ONNX file that agrees with torch on all examples but the first, which is traced.

    Without a graph, the size is that of the example.
    """

    def write(temporary: Path) -> None:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                (),
                kwargs=examples[0],
                dynamo=True,
                dynamic_shapes=_dynamic(graph) if graph else None,
                input_names=[*examples[0]],
                output_names=["restored"],
                verbose=False,
            )
            if program is None:
                raise InputError("this torch exports no ONNX; update it")
            program.model.metadata_props.update(facts)
            program.model.graph.metadata_props.pop(UNORDERED, None)
            program.model.producer_name, program.model.producer_version = SOFTWARE, pellucid.__version__
            program.save(str(temporary), external_data=False)
        found.append(_compare(temporary, module, examples[1:] or examples))

    found: list[float] = []
    write_atomically(path, write)
    return found[0]


def _dynamic(graph: Graph) -> dict[str, dict[int, Any]]:
    """Return which sides of each input may vary, and how they depend on each other."""
    batch, h, w = (torch.export.Dim(name, min=1, max=4096) for name in ("batch", "h", "w"))
    first = {0: batch} if graph.any_batch else {}
    return {
        port.name: {
            **first,
            2: port.unit * h if port.unit > 1 else h,
            3: port.unit * w if port.unit > 1 else w,
        }
        for port in graph.ports
    }


def _compare(path: Path, module: nn.Module, examples: list[dict[str, Tensor]]) -> float:
    """Return the largest difference of onnxruntime from torch; refuse one above the tolerance."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    apart = 0.0
    for example in examples:
        (found,) = session.run(None, {name: x.numpy() for name, x in example.items()})
        with torch.no_grad():
            wanted = module(**example).numpy()
        if found.shape != wanted.shape:
            raise InputError(
                f"the exported model makes {found.shape} where torch makes {wanted.shape}; report it"
            )
        apart = max(apart, float(np.abs(found - wanted).max() / max(1.0, float(np.abs(wanted).max()))))
    if not apart <= TOLERANCE:
        raise InputError(
            f"the exported model differs from torch by {apart:.1e}, above {TOLERANCE:g}; report it"
        )
    return apart


def _write_preview(path: Path, graph: Graph, method: Method, facts: dict[str, str]) -> None:
    """Write the variant for Deepness: one input of 8 bit, one output, tiles of one size."""
    preview = PreviewGraph(graph, method)
    size = max(1, PREVIEW_TILE // graph.ports[0].unit) * graph.ports[0].unit
    if size != PREVIEW_TILE:
        raise InputError(f"tiles of {PREVIEW_TILE} px do not suit this model; leave out --deepness")
    shape, generator = (1, preview.channels, PREVIEW_TILE, PREVIEW_TILE), torch.Generator().manual_seed(0)
    # Deepness has no class for restored images; its super-resolution, of factor 1 too, makes one raster.
    about: dict[str, Any] = {
        "model_type": "Superresolution",
        "class_names": dict(enumerate(preview.shown)),
        "tile_size": PREVIEW_TILE,
        "tiles_size": PREVIEW_TILE,  # the name in its documentation
        "tiles_overlap": OVERLAP_PERCENT,
    }
    if method.optical.kind == "sentinel2":
        about["resolution"] = PIXEL_CM
    texts = {**facts, **{name: json.dumps(value) for name, value in about.items()}}
    _write(path, preview, [{"image": torch.rand(shape, generator=generator)}], texts)


def _facts(folder: Path, graph: Graph) -> dict[str, str]:
    """Return what both files say of themselves: model, weights, licence, and what goes in."""
    about = describe(folder)
    inputs = {port.name: _describe(port) for port in graph.ports}
    return {
        "pellucid": pellucid.__version__,
        "model": about.name,
        "weights_sha256": read_digest(folder / WEIGHTS) or "",
        "description": about.about,
        "licence": about.licence,
        "inputs": json.dumps(inputs),
    }


def _describe(port: Port) -> dict[str, Any]:
    sides = f"height and width are multiples of {port.unit}"
    if port.range is None:
        return {"what": "standard normal noise, at the size of the result", "sides": sides}
    values = port.range
    return {
        "bands": values.bands,
        "zero": values.low,
        "one": values.high,
        "unit": values.unit,
        "sides": sides,
    }


def stac_item(folder: Path, out: Path, graph: Graph, method: Method) -> dict[str, Any]:
    """Return a STAC item with the fields of the machine-learning-model extension."""
    about, bands = describe(folder), result_range(method).bands
    tasks = ["super-resolution"] if method.scale > 1 else ["regression"]
    named = dict.fromkeys(band for port in graph.ports if port.range for band in port.range.bands)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, PROCESSING],
        "id": about.name,
        "geometry": None,
        "properties": {
            **ANY_TIME,
            "processing:software": {SOFTWARE: pellucid.__version__},
            "description": about.about or about.name,
            "license": "Apache-2.0" if about.licence.startswith("Apache-2.0") else "other",
            "mlm:name": re.sub(r"[^a-zA-Z0-9_.\-]", "-", f"pellucid-{about.name}"),
            "mlm:architecture": type(method.network).__name__,
            "mlm:tasks": tasks,
            "mlm:framework": "PyTorch",
            "mlm:framework_version": torch.__version__,
            "mlm:total_parameters": sum(weight.numel() for weight in method.network.parameters()),
            "mlm:pretrained": True,
            "mlm:input": [_stac_input(port) for port in graph.ports],
            "mlm:output": [
                {
                    "name": "restored",
                    "tasks": tasks,
                    "bands": [*bands],
                    "result": _structure(len(bands)),
                }
            ],
        },
        "links": [],
        "assets": {
            "model": {
                "href": f"./{out.name}",
                "type": "application/octet-stream; framework=onnx",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "onnx",
                "bands": [{"name": band} for band in named],
            }
        },
    }


def _stac_input(port: Port) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": port.name,
        "bands": [*port.range.bands] if port.range else [],
        "input": _structure(port.channels),
        "description": json.dumps(_describe(port)),
    }
    if port.range:
        limits = zip(port.range.low, port.range.high, strict=True)
        found["value_scaling"] = [{"type": "min-max", "minimum": a, "maximum": b} for a, b in limits]
    return found


def _structure(channels: int) -> dict[str, Any]:
    return {
        "shape": [-1, channels, -1, -1],  # -1: any
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": "float32",
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of its own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
