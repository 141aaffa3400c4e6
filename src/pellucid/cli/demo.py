"""The demonstration: a scene whose truth is known, put under clouds, restored and evaluated."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid.apply.options import SceneOptions
from pellucid.apply.remove_clouds import restore_scene
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.drawing import radar_to_rgb, save_picture, sheet, to_rgb
from pellucid.data.files import write_atomically
from pellucid.data.raster import read_cloud, read_optical, read_radar
from pellucid.evaluation.figures import baseline_spectrum, score_image
from pellucid.evaluation.table import Evaluation, summarise
from pellucid.simulate.clouds import SkyOptions, add_clouds
from pellucid.simulate.landscape import make_scene
from pellucid.simulate.pairs import PairPaths, write_pair

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
    """Where everything lies, and the figures.

    Attributes:
        files: path by what it is.
        evaluation: the restored scene and both baselines against the truth.
    """

    files: dict[str, Path]
    evaluation: Evaluation


def run_demo(
    folder: Path, *, size: int, seed: int, model: str, progress: Callable[[float, int], None] | None = None
) -> DemoResult:
    """Make a cloudy scene, restore it, and write result, picture and figures.

    Args:
        folder: made where it is missing; results of an earlier demo are replaced.
        size: side of the scene in pixels.
        seed: of the landscape and its clouds.
        model: a run folder, or a model that ships.
        progress: called with (tiles done, tiles).

    Raises:
        InputError: if the model is unknown or the folder cannot be written.
    """
    scene = make_scene(size, seed)
    method = load(model)
    cloudy, cloud = add_clouds(
        scene.optical, method.optical.bands, torch.Generator().manual_seed(seed), options=SKY
    )
    paths = write_pair(folder, "scene", scene, cloudy, cloud)
    clear = folder / "clear.tif"
    clear.unlink(missing_ok=True)
    restore_scene(
        paths.cloudy,
        clear,
        sar=paths.radar,
        method=method,
        options=SceneOptions(preview=False),
        progress=progress,
    )
    batch, restored = _read_back(paths, clear, method.optical.bands)
    score = score_image(batch, restored, baseline_spectrum(method))
    evaluation = summarise([score], name=model)
    files = {
        "scene": paths.cloudy,
        "result": clear,
        "picture": folder / "before_after_truth.png",
        "figures": folder / "figures.json",
    }
    panels = [
        to_rgb(batch.degraded[0], method.optical.bands),
        radar_to_rgb(read_radar(paths.radar)) if paths.radar else to_rgb(restored[0], method.optical.bands),
        to_rgb(restored[0], method.optical.bands),
        to_rgb(scene.optical, method.optical.bands),
    ]
    save_picture(sheet([panels], ("before", "radar", "after", "truth"), side=PANEL), files["picture"])
    text = json.dumps(evaluation.to_dict(), indent=2) + "\n"
    write_atomically(files["figures"], lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return DemoResult(files, evaluation)


def _read_back(paths: PairPaths, clear: Path, bands: tuple[str, ...]) -> tuple[Batch, torch.Tensor]:
    """Return the scene as its files hold it, and the restored image, (1, C, H, W)."""
    images = {}
    for name, path in (("degraded", paths.cloudy), ("target", paths.clear), ("restored", clear)):
        images[name], valid = read_optical(path, bands, offset="none")
    cloud = read_cloud(paths.cloud)
    restored = images.pop("restored")[None]
    joined = {name: image[None] for name, image in {**images, "valid": valid, "cloud": cloud}.items()}
    batch = Batch(key=("scene",), **joined)  # type: ignore[arg-type]
    return batch, restored
