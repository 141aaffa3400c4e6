"""What the service offers: files and options of commands, with the help of the command line."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin

from pellucid.cli.pictures import colorize_command
from pellucid.cli.scenes import remove_clouds
from pellucid.cli.slices import upscale_command
from pellucid.data.ranges import PICTURE
from pellucid.data.run_folder import CONFIG, find_run, shipped_runs
from pellucid.data.schema import read_yaml
from pellucid.web.tasks import Choice, Kind, Role, Task

RASTERS = (".tif", ".tiff", ".jp2")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Of each command: its function, what files it takes, and the options that people change.
SCENE_ROLES = (
    Role(
        "scene", "Scene", "Sentinel-2: a GeoTIFF, or a product as .zip or .SAFE.", suffixes=(*RASTERS, ".zip")
    ),
    Role("sar", "Radar", "Sentinel-1 VV and VH of the place, which sees through clouds.", "--sar"),
    Role(
        "reference",
        "Other dates",
        "Scenes of the place, clear in part.",
        "--reference",
        many=True,
        suffixes=(*RASTERS, ".zip"),
    ),
    Role("cloud", "Cloud map", "0 clear to 1 cloud; without one, the model finds the clouds.", "--cloud"),
)
SCENE_OPTIONS = (
    "model",
    "uncertainty",
    "align",
    "match_surroundings",
    "bands",
    "polarisations",
    "sar_units",
    "cloud_scale",
    "offset",
    "steps",
    "samples",
    "seed",
)
SLICE_ROLES = (
    Role(
        "slices",
        "Slices",
        "Grey PNG or TIFF, one file, a stack of pages, or several.",
        many=True,
        suffixes=PICTURES,
        grey=PICTURES,
    ),
)
SLICE_OPTIONS = ("model", "factor", "grey_range", "steps", "samples", "seed")
RADAR_ROLES = (
    Role(
        "radar",
        "Radar",
        "A grey PNG, JPEG or TIFF, or a GeoTIFF; one or several.",
        many=True,
        suffixes=PICTURES,
        grey=PICTURES[:3],  # a TIFF may hold two polarisations
    ),
)
RADAR_OPTIONS = ("region", "season", "prompt", "model", "sar_units", "steps", "guidance", "seed")
# Files that options write into the folder of results, and what is said of them.
WRITES = {"uncertainty": ("std.tif", "Write the standard deviation too, band by band.")}
_KINDS: dict[type, Kind] = {bool: "yes", int: "whole", float: "number", str: "text"}


def find_tasks(runs: Sequence[Path] = ()) -> dict[str, Task]:
    """Return the commands that are offered, with the models that ship and those of further run folders."""
    models = find_models(runs)
    commands = {"remove-clouds": remove_clouds, "upscale": upscale_command, "colorize": colorize_command}
    options = {"remove-clouds": SCENE_OPTIONS, "upscale": SLICE_OPTIONS, "colorize": RADAR_OPTIONS}
    choices = {name: _choices(commands[name], options[name], models.get(name, ())) for name in commands}
    found = (
        Task("remove-clouds", "Remove clouds", SCENE_ROLES, choices["remove-clouds"], "clear.tif"),
        Task("upscale", "Enlarge slices", SLICE_ROLES, choices["upscale"], "large.tif", "large"),
        Task("colorize", "Colour radar", RADAR_ROLES, choices["colorize"], "colour.png", "colours", 3),
    )
    return {task.command: task for task in found}


def find_models(runs: Sequence[Path] = ()) -> dict[str, tuple[str, ...]]:
    """Return which models each command can use: by name those that ship, by absolute path the others."""
    found: dict[str, tuple[str, ...]] = {}
    for model in (*shipped_runs(), *(str(path.resolve()) for path in runs)):
        method = read_yaml(find_run(model) / CONFIG).get("method")
        method = method if isinstance(method, dict) else {}
        if method.get("scale", 1) > 1:
            command = "upscale"
        else:
            is_picture = tuple(method.get("optical") or ()) == PICTURE.bands
            command = "colorize" if is_picture else "remove-clouds"
        found[command] = (*found.get(command, ()), model)
    return found


def _choices(
    command: Callable[..., None], names: Sequence[str], models: tuple[str, ...]
) -> tuple[Choice, ...]:
    """Return options of a command as its signature describes them."""
    parameters = inspect.signature(command).parameters
    return tuple(_choice(parameters[name], models) for name in names)


def _choice(parameter: inspect.Parameter, models: tuple[str, ...]) -> Choice:
    kind, option = get_args(parameter.annotation)
    kinds = (
        [each for each in get_args(kind) if each is not NoneType] if get_origin(kind) is not Literal else []
    )
    kind = kinds[0] if kinds else kind
    # Typer takes the first name for a default where the annotation holds the option.
    declared = (option.default, *(option.param_decls or ()))
    flags = [each for each in declared if isinstance(each, str) and each.startswith("--")]
    known = models if parameter.name == "model" else get_args(kind)
    writes, about = WRITES.get(parameter.name, ("", option.help or ""))
    return Choice(
        name=parameter.name,
        help=about,
        flag=flags[0] if flags else f"--{parameter.name.replace('_', '-')}",
        kind="yes" if writes else _KINDS.get(kind, "text"),
        default=False if writes else parameter.default,
        low=option.min,
        high=option.max,
        known=known,
        only=bool(known),
        writes=writes,
    )
