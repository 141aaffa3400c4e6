"""One HTML file that holds a viewer, its data and what made them, and needs nothing else."""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pellucid.data.files import write_text
from pellucid.data.geotiff import Grid
from pellucid.web.layers import Layer, Part, Steps, cut_parts

# Bytes of the largest page.
MAX_BYTES = 15_000_000
# Bytes that a page of data in base64 may take more than the data, and that the rest of it needs.
BASE64, REST = 4 / 3, 100_000
# Share of their size to which the pixels of scenes shrink, roughly.
PACKED = 0.6
ASSETS = Path(__file__).parent / "assets"
LIBRARIES = ("vendor/ol.js", "vendor/geotiff.js")
# Scripts that a kind of page takes from another.
ALSO = {"benchmark": ("evaluation/plots.js",)}
LICENCES = {"OpenLayers": "vendor/ol.LICENSE.md", "geotiff.js": "vendor/geotiff.LICENSE"}


# The folder below which pages link files, where not all that lie on the machine are for their readers.
linked_below: ContextVar[Path | None] = ContextVar("linked_below", default=None)


def page_of(out: Path) -> Path:
    """Return where the page of a result lies."""
    return out.with_suffix(".html")


def write_page(path: Path, layers: Sequence[Layer], provenance: Mapping[str, str], *, title: str) -> None:
    """Write the page of a scene, as `draw_page` draws it; the caller has checked and claimed `path`."""
    write_text(path, draw_page(path.parent, layers, provenance, title=title))


def draw_page(folder: Path, layers: Sequence[Layer], provenance: Mapping[str, str], *, title: str) -> str:
    """Return the page of a scene, at most `MAX_BYTES` long.

    A larger scene is decimated: the page holds every n-th pixel, with the values of the file.

    Args:
        folder: of the page.
        layers: in the order in which they are listed; the first is on the left, the result on the right.
        provenance: what the page says about how the result was made, label by label.
        title: of the page.
    """
    grid = layers[0].grid
    room = room_for_data()
    steps = _first_steps(layers, room)
    while (taken := size_of(parts := cut_parts(layers, steps))) > room:
        steps = _coarser(steps, taken / room)
    data = {
        "title": title,
        "grid": _describe_grid(grid),
        "start": steps.start,
        "fine": steps.fine,
        "step": steps.coarse,
    }
    return draw_layers(folder, "scene", layers, parts, {**data, "provenance": list(provenance.items())})


def room_for_data() -> int:
    """Return how many bytes the embedded files of a page may have."""
    return int((MAX_BYTES - REST - sum(len(_asset(name)) for name in LIBRARIES)) / BASE64)


def draw_layers(
    folder: Path, kind: str, layers: Sequence[Layer], parts: Sequence[Sequence[Part]], data: Mapping[str, Any]
) -> str:
    """Return a page of a kind with the parts of its layers, and data, of which `title` is one."""
    described = [
        _describe(layer, f"{i}", of_layer, folder)
        for i, (layer, of_layer) in enumerate(zip(layers, parts, strict=True))
    ]
    files = {f"{i}-{j}": part.geotiff for i, each in enumerate(parts) for j, part in enumerate(each)}
    return render(kind, data["title"], {**data, "layers": described}, files)


def render(kind: str, title: str, data: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Return a page of a kind, "scene", with its data, and files that its map finds by name."""
    has_map = bool(files)
    scripts = [_asset(name) for name in (*(LIBRARIES if has_map else ()), *_scripts(kind))]
    styles = [_asset(name) for name in (*(["vendor/ol.css"] if has_map else []), "page.css")]
    policy = (
        f"default-src 'none'; script-src {_digests(scripts)}; style-src {_digests(styles)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    blocks = [
        _block("json", "data", _json(data)),
        *(
            _block("octet-stream", f"file-{name}", base64.b64encode(each).decode())
            for name, each in files.items()
        ),
    ]
    head = [f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">']
    return fill_frame(
        kind,
        title,
        head="\n".join([*head, *(f"<style>{each}</style>" for each in styles)]),
        foot="\n".join([*blocks, *(f"<script>{each}</script>" for each in scripts)]),
    )


def fill_frame(
    kind: str, title: str, *, head: str, links: str = "", otherwise: str = "", foot: str = ""
) -> str:
    """Return a page of a kind in the frame that all share.

    The file of a kind has how its body begins, in two lines, and its `main`. All but the title is HTML.

    Args:
        kind: "scene", for instance.
        title: of the page.
        head: styles, and scripts or what they may do.
        links: to other pages, for the header.
        otherwise: what can be done without JavaScript.
        foot: data and scripts.
    """
    filled = {
        "title": html.escape(title),
        "head": head,
        "links": links,
        "otherwise": otherwise,
        "foot": foot,
        "licences": "\n\n".join(html.escape(f"{n}\n\n{_asset(file)}") for n, file in LICENCES.items()),
    }
    body, skip, main = _asset(f"{kind}.html").split("\n", 2)
    page = _asset("frame.html").replace("{{body}}", f"{body}\n{skip}").replace("{{main}}", main)
    return re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], page)


def _first_steps(layers: Sequence[Layer], room: float) -> Steps:
    """Return the finest steps with which the layers fit, as far as their sizes show."""
    steps = Steps(1, 1)
    while sum(_estimate(layer, steps) for layer in layers) > room:
        steps = _coarser(steps)
    return steps


def _estimate(layer: Layer, steps: Steps) -> float:
    grid = layer.grid
    pixels = sum(grid.height * grid.width / steps.of(layer, band) ** 2 for band in layer.bands)
    return pixels * PACKED * (1 if layer.kind == "painted" else 2)


def _coarser(steps: Steps, factor: float = 1.0) -> Steps:
    """Return the next steps, or later ones if the data must shrink by a larger factor."""
    if steps.coarse == 1:
        return Steps(1, 2)
    fine = max(steps.fine + 1, int(steps.fine * factor**0.5))
    return Steps(fine, 2 * fine)


def size_of(parts: Sequence[Sequence[Part]]) -> int:
    """Return the bytes of embedded files."""
    return sum(len(part.geotiff) for each in parts for part in each)


def _describe_grid(grid: Grid) -> dict[str, Any]:
    """Return size, CRS and, where rows run east, the place of the grid."""
    found: dict[str, Any] = {"width": grid.width, "height": grid.height}
    flat = grid.transform.b == 0 and grid.transform.d == 0
    if grid.crs and flat and "transform" in grid.place:
        found["crs"] = grid.crs.to_string()
        found["units"] = "degrees" if grid.crs.is_geographic else "m"
        found["transform"] = [grid.transform.c, grid.transform.a, grid.transform.f, grid.transform.e]
    return found


def _describe(layer: Layer, name: str, parts: Sequence[Part], folder: Path) -> dict[str, Any]:
    """Return what the scripts must know about a layer."""
    link = _link(layer.path, folder)
    return {
        "name": layer.name,
        "kind": layer.kind,
        "unit": layer.unit,
        "file": layer.path.name,
        "link": link + "/" if link and layer.path.is_dir() else link,
        "bands": [{"name": band.name, "add": band.add, "divide": band.divide} for band in layer.bands],
        "parts": [
            {"file": f"{name}-{i}", "bands": part.bands, "step": part.step} for i, part in enumerate(parts)
        ],
    }


def _link(path: Path, folder: Path) -> str:
    """Return the address of a file, seen from the page in `folder`; none where there is no way."""
    below = linked_below.get()
    if below and not path.resolve().is_relative_to(below.resolve()):
        return ""
    try:
        return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix(), errors="replace")
    except ValueError:  # another drive
        return ""


def _block(kind: str, name: str, text: str) -> str:
    """Return data that scripts find by name, and that no browser runs."""
    return f'<script type="application/{kind}" id="{name}">{text}</script>'


def _json(data: Mapping[str, Any]) -> str:
    """Return JSON that ends no element of HTML, whatever it holds."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digests(texts: Sequence[str]) -> str:
    """Return what a security policy allows: these texts, and nothing else."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _scripts(kind: str) -> list[str]:
    """Return the scripts of a page of a kind: the shared ones, then its own."""
    return [
        *ALSO.get(kind, ()),
        *(
            f"{folder}/{path.name}"
            for folder in ("shared", kind)
            for path in sorted((ASSETS / folder).glob("*.js"))
        ),
    ]


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
