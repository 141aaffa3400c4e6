"""The page beside colorized radar: the radar, its pictures, and the truth where there is one."""

from collections.abc import Sequence
from pathlib import Path

from pellucid.apply.color_jobs import ColorJob
from pellucid.apply.info import in_labels
from pellucid.apply.outputs import Output, check_outputs
from pellucid.data.radar_picture import read_as_stored
from pellucid.web.layers import Band, Kind, Layer, array_layer
from pellucid.web.write_page import page_of, write_page

# The page of several pictures of one radar, in their folder.
PAGE = "pictures.html"
COLORS = ("Red", "Green", "Blue")


def find_page(jobs: Sequence[ColorJob], out: Path) -> Path | None:
    """Return where the page of these pictures goes; None for those of several radar images.

    Raises:
        InputError: if it cannot be written, or would replace a file of somebody else.
    """
    if len({job.radar for job in jobs}) > 1:
        return None
    if jobs[0].out == out:
        path, folders = page_of(out), []
    else:
        path, folders = out / PAGE, [out]
    check_outputs([Output(path, jobs[0].source)], [jobs[0].source], folders=folders)
    return path


def write_picture_page(path: Path, jobs: Sequence[ColorJob]) -> None:
    """Write the page of the pictures of one radar."""
    first = jobs[0]
    layers = [_layer("Radar", "radar", first.source)]
    for job in jobs:
        layers.append(_layer("After" if len(jobs) == 1 else job.label, "after", job.out))
    if first.guess:
        layers.append(_layer("Guess", "reference", first.guess))
    if first.truth:
        layers.append(_layer("Truth", "truth", first.truth))
    prompts = "; ".join(dict.fromkeys(job.prompt for job in jobs if job.prompt))
    made = {"Prompt": prompts, "Colours": "plausible, not measured", **in_labels(first.out)}
    write_page(path, layers, made, title=first.out.name if len(jobs) == 1 else path.parent.name)


def _layer(name: str, kind: Kind, path: Path) -> Layer:
    values, valid, grid = read_as_stored(path)
    if kind == "radar" and (values == values[:1]).all():  # grey, kept as a picture in colour
        values = values[:1]
    plain = ("Radar",) if len(values) == 1 else [f"Band {i + 1}" for i in range(len(values))]
    names = COLORS if len(values) == len(COLORS) else plain
    bands = tuple(Band(text, i) for i, text in enumerate(names, start=1))
    return array_layer(name, kind, path, grid, values, valid, bands)
