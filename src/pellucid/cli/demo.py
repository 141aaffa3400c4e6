"""The demonstration: a scene whose truth is known, put under clouds, restored and evaluated."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid.apply.engine import Progress
from pellucid.apply.options import SceneOptions
from pellucid.apply.remove_clouds import restore_scene
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.claims import claim_folders
from pellucid.data.drawing import radar_to_rgb, save_picture, sheet, to_rgb
from pellucid.data.files import write_text
from pellucid.data.ownership import check_replaceable
from pellucid.data.raster import read_cloud, read_optical, read_radar
from pellucid.evaluation.figures import baseline_spectrum, score_image
from pellucid.evaluation.table import Evaluation, summarise
from pellucid.simulate.clouds import SkyOptions, add_clouds
from pellucid.simulate.landscape import make_scene
from pellucid.simulate.pairs import FOLDERS, PairPaths, write_pair
from pellucid.web.write_page import page_of

# A sky with holes: clouds and their shadows over about a third of the scene, and some haze.
SKY = SkyOptions(
    cover=(0.35, 0.35),
    overcast=0.0,
    thin=0.0,
    haze=0.3,
    thickness=(8.0, 15.0),
    height=(0.08, 0.15),
    shadow=(0.8, 1.0),
)
# Longer side of a panel of the picture, in pixels.
PANEL = 512


@dataclass(frozen=True)
class DemoResult:
    """Where everything lies, and the figures."""

    files: dict[str, Path]  # by what they are
    evaluation: Evaluation  # the restored scene and the baselines against the truth


def run_demo(
    folder: Path,
    *,
    size: int,
    seed: int,
    model: str,
    making: Progress | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Make a cloudy scene of `size` x `size` pixels, restore it, and write result, picture and figures.

    The folder is made where it is missing; results of an earlier demo are replaced. `making` is called with
    (steps done, steps) until the scene is there, then `progress` with (tiles done, tiles).
    """
    made = making or (lambda _done, _all: None)
    made(0, 3)
    scene, method = make_scene(size, seed), load(model)
    made(1, 3)
    bands, generator = method.optical.bands, torch.Generator().manual_seed(seed)
    cloudy, cloud = add_clouds(scene.optical, bands, generator, options=SKY)
    with claim_folders(folder):
        clear, picture = folder / "clear.tif", folder / "before_after_truth.png"
        figures = folder / "figures.json"
        for path in (clear, picture, page_of(clear), *(folder / sub / "scene.tif" for sub in FOLDERS)):
            check_replaceable(path)
        check_replaceable(figures, start='{\n  "name": ')
        made(2, 3)
        paths = write_pair(folder, "scene", scene, cloudy, cloud)
        made(3, 3)
        options = SceneOptions(preview=False, truth=paths.clear)
        restore_scene(paths.cloudy, clear, sar=paths.radar, method=method, options=options, progress=progress)
        batch, restored = _read_back(paths, clear, bands)
        evaluation = summarise([score_image(batch, restored, baseline_spectrum(method))], name=model)
        files = {
            "scene": paths.cloudy,
            "result": clear,
            "picture": picture,
            "figures": figures,
            "page": page_of(clear),
        }
        before, after, truth = (to_rgb(x, bands) for x in (batch.degraded[0], restored[0], scene.optical))
        panels = [before, radar_to_rgb(read_radar(paths.radar)) if paths.radar else after, after, truth]
        save_picture(sheet([panels], ("before", "radar", "after", "truth"), side=PANEL), files["picture"])
        write_text(files["figures"], json.dumps(evaluation.to_dict(), indent=2) + "\n")
        return DemoResult(files, evaluation)


def _read_back(paths: PairPaths, clear: Path, bands: tuple[str, ...]) -> tuple[Batch, torch.Tensor]:
    """Return the scene as its files hold it, and the restored image, (1, C, H, W)."""
    (degraded, _), (target, _), (restored, valid) = (
        read_optical(path, bands, offset="none") for path in (paths.cloudy, paths.clear, clear)
    )
    images = {"degraded": degraded, "target": target, "valid": valid, "cloud": read_cloud(paths.cloud)}
    joined: dict[str, Any] = {name: image[None] for name, image in images.items()}
    return Batch(key=("scene",), **joined), restored[None]
