"""Finds the layouts of the shelf: each is a file of this folder, known by its name.

A layout has `Config`, a dataset (`Patches`) and `build(config, wanted)`. The layout of a folder, whose
`Config` takes `root`, also has `recognise(root)` and `list_samples(config)`. It may have `SIGN`, which says
how such a folder is recognised; `IS_GENERAL`, if it accepts any images and is asked last; and
`as_trained(config, trained)`, which adapts the config of an evaluation to that of the training; and
`from_list(path)`, which returns the keys of a config for a list in CSV, None if it is none of the layout.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pellucid.datasets
from pellucid.data.files import check_is_folder
from pellucid.errors import InputError, nearest


def known_layouts() -> list[str]:
    """Return the names of all layouts; further folders may be added to `pellucid.datasets.__path__`."""
    found = {module.name for module in pkgutil.iter_modules(pellucid.datasets.__path__)}
    return sorted(name for name in found if not name.startswith("_"))


def find_layout(name: str) -> ModuleType:
    """Return the file of a layout."""
    known = known_layouts()
    if name not in known:
        raise InputError(f"no layout of data is called {name!r}{nearest(str(name), known)}")
    return importlib.import_module(f"{pellucid.datasets.__name__}.{name}")


def folder_layouts() -> dict[str, ModuleType]:
    """Return the layouts that are read from a folder."""
    layouts = {name: find_layout(name) for name in known_layouts()}
    return {name: layout for name, layout in layouts.items() if hasattr(layout, "recognise")}


def recognise(root: Path, first: Sequence[str] = ()) -> str:
    """Return the name of a folder's layout.

    Args:
        root: the folder.
        first: layouts to be preferred where several fit.
    """
    check_is_folder(root)
    layouts = folder_layouts()
    for name in sorted(layouts, key=lambda name: (hasattr(layouts[name], "IS_GENERAL"), name not in first)):
        if layouts[name].recognise(root):
            return name
    signs = [f"{name} ({getattr(layout, 'SIGN', 'its own files')})" for name, layout in layouts.items()]
    raise InputError(f"{root} holds none of the known layouts: {'; '.join(signs)}")


def recognise_list(path: Path) -> tuple[str, dict[str, object]]:
    """Return the name of the layout of a list in CSV, and the keys of its config."""
    for name, layout in folder_layouts().items():
        keys = layout.from_list(path) if hasattr(layout, "from_list") else None
        if keys is not None:
            return name, keys
    raise InputError(
        f"{path} is no list of images: its first row must begin with 1, 2 or 3 (SEN12MS-CR, no header), or "
        "name the columns (pictures: s1_fileName, s2_fileName)"
    )
