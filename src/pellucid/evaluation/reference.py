"""Folders -> the images with which a trained model is evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pellucid.config import Source
from pellucid.data.schema import parse
from pellucid.datasets._listing import Patches, SingleImages, Wanted
from pellucid.datasets._shelf import find_layout, folder_layouts, recognise, recognise_list
from pellucid.errors import InputError
from pellucid.evaluation.sources import read_sources
from pellucid.methods.method import Method


def read_reference(
    method: Method,
    root: Path,
    *,
    split: Literal["train", "val", "test", "all"] = "all",
    splits: Path | None = None,
    legacy_fill: bool = False,
    lr: Path | None = None,
    numbers: tuple[int, int] | None = None,
    folders: tuple[str, ...] = (),
    trained: Sequence[Source] = (),
) -> Patches:
    """Return the images of a folder, whichever layout it has, with which a method is evaluated.

    An autoencoder is evaluated with the clear images, or the radar.

    Args:
        method: decides which bands are read.
        root: the folder, or a list of images in CSV, or a YAML file for `read_sources`, to which nothing else
            applies.
        split: of the images; all of them where `folders` are given.
        splits: JSON of places per split.
        legacy_fill: see `sen12ms_cr.Config`.
        lr: folder of the slices of low resolution; without it, they are made.
        numbers: first and last of the slices.
        folders: region folders of pictures.
        trained: sources of the method's training; these layouts are preferred, and pictures are prepared,
            prompted and split alike.

    Raises:
        InputError: if the images cannot be used, or the layout has nothing that is asked for.
    """
    asked = {"splits": splits, "lr": lr, "numbers": numbers, "folders": folders}
    if root.suffix.lower() in (".yaml", ".yml"):
        _refuse_idle(root, asked, "which says itself what is read")
        return read_sources(method, root)
    name, listed = _name_layout(root, [source.name for source in trained])
    layout = find_layout(name)
    _refuse_idle(
        root, {key: asked[key] for key in asked.keys() - layout.Config.model_fields}, f"of layout {name}"
    )
    given = {**asked, "split": "all" if folders else split, "legacy_fill": legacy_fill}
    keys = {key: value for key, value in given.items() if value and key in layout.Config.model_fields}
    config = parse(layout.Config, {**keys, **listed}, where=str(root))
    like = next((source for source in trained if source.name == name), None)
    if like is not None and hasattr(layout, "as_trained"):
        config = layout.as_trained(config, like)
    try:
        patches = layout.build(config, Wanted(method.optical.bands, method.radar.bands, method.scale))
    except InputError as error:
        raise InputError(f"{root}: {error}" if str(root) not in str(error) else str(error)) from error
    if method.task == "reconstruct":
        return SingleImages(patches, method.optical.bands)
    if patches.is_clear:
        raise InputError(f"{root} holds clear images alone, of layout {name}; give pairs of cloudy and clear")
    return patches


def _refuse_idle(root: Path, asked: Mapping[str, object], reason: str) -> None:
    """Refuse what is asked for and has no meaning for these images."""
    for key, value in asked.items():
        if value:
            raise InputError(f"--{key} does not apply to {root}, {reason}; leave it out")


def _name_layout(root: Path, trained: Sequence[str]) -> tuple[str, dict[str, object]]:
    """Return the layout of a folder or list and the keys of its config that say where it is.

    Where no layout fits a folder, it is that of the training, whose error says what the folder lacks.
    """
    if root.suffix.lower() == ".csv":
        return recognise_list(root)
    try:
        return recognise(root, first=trained), {"root": root}
    except InputError:
        for name in trained:
            if name in folder_layouts():
                return name, {"root": root}
        raise
