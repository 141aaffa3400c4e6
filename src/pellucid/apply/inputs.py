"""Input files are checked before torch and the model are loaded, so that a wrong one is refused at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.data.files import check_exists, check_input, only_files
from pellucid.data.geotiff import Raster
from pellucid.data.ownership import PREFIX, read_tags
from pellucid.data.run_folder import CONFIG, find_run
from pellucid.data.safe_product import is_named_product, is_product
from pellucid.data.schema import read_yaml
from pellucid.data.slice_file import TIFF, errors_named, find_files, is_folder, read_info
from pellucid.errors import InputError

# Suffixes of scenes.
SCENES = (".tif", ".tiff", ".vrt")
# Methods, by their name in a config, that restore whatever bands a scene has.
ANY_BANDS = ("ground",)


def check_rasters(
    optical: Path,
    sar: Path | None = None,
    cloud: Path | None = None,
    references: Sequence[Path] = (),
    *,
    align: bool = True,
) -> None:
    """Refuse a scene, a radar scene, a cloud map or another date that is missing or no raster.

    Without `align`, one on another grid than the scene is refused too.
    """
    guides = ((sar, "radar scene"), (cloud, "cloud map"), *((path, "reference") for path in references))
    with Raster(optical, "optical scene") as scene:
        for path, what in guides:
            if path:
                with Raster(path, what) as raster:
                    raster.align(scene.grid, allowed=align)


def check_scene_model(
    model: str, *, references: bool = False, bands: bool = False, shared: bool = False
) -> None:
    """Refuse a model that is not there, and what one does not take: references, names of bands, other scenes.

    Its config says so, long before its weights are read.
    """
    if _read_method(model).get("name") in ANY_BANDS:
        return
    if references:
        raise InputError(
            f"references are given, but the model {model} takes none; leave out --reference or choose "
            "another --model"
        )
    if shared:
        raise InputError(
            f"--shared-context is given, but the model {model} looks at tiles alone; leave it out or choose "
            "another --model"
        )
    if bands:
        raise InputError(
            f"--bands says what a scene has, but the model {model} needs its own bands, by name or in order; "
            "leave it out or choose another --model"
        )


def check_bands(
    optical: Path,
    model: str,
    allow_missing: tuple[str, ...] = (),
    *,
    bands: tuple[str, ...] | None = None,
    sar: Path | None = None,
    polarisations: tuple[str, ...] | None = None,
) -> None:
    """Refuse a model that is not there, and a scene without the bands that its config names.

    Where any bands will do, `bands` and `polarisations` say what those of scene and radar are; None: the
    files do, or are refused.
    """
    from pellucid.data.band_names import find_bands, match_bands, match_polarisations
    from pellucid.data.ranges import SENTINEL2

    method = _read_method(model)
    wanted = tuple(method.get("optical") or ())
    if method.get("name") in ANY_BANDS:
        with Raster(optical, "optical scene") as raster:
            find_bands(raster.dataset, optical, bands)
        if sar:
            with Raster(sar, "radar scene") as raster:
                match_polarisations(raster.dataset, sar, polarisations, partial=True)
    elif wanted and set(wanted) <= set(SENTINEL2.bands):
        with Raster(optical, "optical scene") as raster:
            match_bands(raster.dataset, wanted, optical, allow_missing)


def _read_method(model: str) -> dict[str, Any]:
    """Return the entry `method` of a model's config."""
    method = read_yaml(find_run(model) / CONFIG).get("method")
    return method if isinstance(method, dict) else {}


def check_slices(source: Path) -> None:
    """Refuse a slice that is missing or damaged, or a folder without any."""
    for path in find_files(source)[:1] if is_folder(source) else [source]:
        read_info(path)


def check_radar_picture(source: Path) -> None:
    """Refuse a radar picture that is missing or damaged."""
    check_exists(source, "name a radar picture, a folder of such, or a dataset")
    check_input(source, "radar picture")
    if source.is_dir():
        return
    if source.suffix.lower() in TIFF:
        Raster(source, "radar image", is_stack=True).close()
        return
    from PIL import Image

    with errors_named(source, "picture"), Image.open(source):
        pass


def find_scenes(
    scenes: Path,
    pattern: str,
    results: Iterable[Path] = (),
    *,
    keeps: Callable[[Path], bool] = lambda path: not is_layer_tag(read_tags(path)),
) -> tuple[Path, list[Path]]:
    """Return a folder and the scenes in it, sorted, without hidden ones, layers and folders of results in it.

    `scenes` is the folder, or one scene; `pattern` says which files are scenes, as in `Path.glob`. `keeps`
    leaves out the layers: it opens each file.
    """
    if scenes.is_file() or is_product(scenes):
        return scenes.parent, [scenes]
    check_exists(scenes, "name a folder of Sentinel-2 scenes")
    check_input(scenes, "scene")
    root = scenes.resolve()
    inside = [each.resolve() for each in results if root in each.resolve().parents]
    try:
        fitting = sorted(scenes.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"{pattern!r} is no pattern ({error}), use one such as '**/*_S2_*.tif'") from error
    found = only_files(each for each in fitting if each.suffix.lower() in SCENES)
    paths = [
        path
        for path in (*found, *filter(is_named_product, fitting))
        if not any(part.startswith(".") for part in path.relative_to(scenes).parts)
        and not any(folder in path.resolve().parents for folder in inside)
        and keeps(path)
    ]
    if not paths:
        kinds = ", ".join((*SCENES, ".SAFE"))
        raise InputError(f"no scene ({kinds}) in {scenes} fits {pattern!r}, change the folder or --pattern")
    return scenes, paths


def is_layer_tag(tags: Mapping[str, str]) -> bool:
    """Whether the tags of a file are of what pellucid writes beside a scene: what was painted, a map."""
    return tags.get(f"{PREFIX}LAYER", "result") != "result"
