"""How a scene is to be restored, and what a model cannot do."""

from dataclasses import dataclass
from typing import Literal

from pellucid.data.raster import Offset
from pellucid.errors import InputError
from pellucid.methods.inference import check_samples
from pellucid.methods.method import Method


@dataclass(frozen=True)
class RestoreOptions:
    """How a scene is restored.

    Attributes:
        tile: side of a tile in pixels; a multiple of the method's stride.
        overlap: pixels that neighbouring tiles share; a multiple of the stride. Under one cloud, tiles that
            show other ground are painted otherwise, and need some way from one colour to the other.
        batch: tiles that are restored at once; 0: 1 on a CPU, 8 on a GPU.
        keep_clear: pass clear pixels through unchanged.
        cloud_threshold: probability above which a pixel is restored.
        margin_px: pixels around clouds that are restored too.
        feather_px: width of the edge over which restored pixels pass into unchanged ones.
        precision: "bf16" halves the memory and is quicker where the hardware knows it.
        device: "auto", "cpu", "cuda" and so on.
        align: warp radar and cloud map to the scene's grid.
        offset: DN to add before use; "auto" asks the metadata, then the values; "none" is 0.
        allow_missing: bands that the scene may lack; the network then sees 0.
        preview: write a PNG, before and after, beside the result.
        resume: go on where an interrupted call stopped.
        steps: of a method that samples; None: as the model's config says.
        eta: fresh noise per step, from 0, deterministic, to 1; None: as the config says.
        guidance: how many times as far radar and cloudy image are followed; None: as the config says.
        samples: images that are drawn; the result is their mean.
        seed: the same seed gives the same image, however it is tiled into equal tiles.
        prompt: what is to be seen, for a model that takes text.
        match_surroundings: bring the low frequencies of what is restored into line with the clear pixels
            around it.
    """

    tile: int = 256
    overlap: int = 64
    batch: int = 0
    keep_clear: bool = True
    cloud_threshold: float = 0.5
    margin_px: int = 4
    feather_px: int = 16
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    align: bool = False
    offset: Offset = "auto"
    allow_missing: tuple[str, ...] = ()
    preview: bool = True
    resume: bool = True
    steps: int | None = None
    eta: float | None = None
    guidance: float | None = None
    samples: int = 1
    seed: int = 0
    prompt: str | None = None
    match_surroundings: bool = False


def check_options(method: Method, options: RestoreOptions, *, wants_spread: bool) -> None:
    """Refuse what the method cannot do, and options that contradict each other.

    Raises:
        InputError: saying which, and what to change.
    """
    if method.task == "reconstruct":
        raise InputError("this model is an autoencoder, it takes no clouds off; choose another --model")
    if method.task == "embed":
        raise InputError("this model is a text encoder, it takes no clouds off; choose another --model")
    if method.scale > 1:
        raise InputError(
            f"this model enlarges slices {method.scale} times, it takes no clouds off; choose another "
            "--model, or use `pellucid upscale`"
        )
    check_samples(method, options.samples)
    if wants_spread and not method.is_random:
        raise InputError(
            "the uncertainty is asked for, but this model knows no chance, its samples do not differ; leave "
            "out --uncertainty or choose another --model"
        )
    if wants_spread and options.samples < 2:
        raise InputError("the uncertainty needs several samples, 1 is drawn; add --samples 8")
    if options.prompt is not None and not method.takes_text:
        raise InputError(
            "a prompt is given, but this model takes no text; leave out --prompt or choose another --model"
        )
    if options.match_surroundings and not options.keep_clear:
        raise InputError(
            "--match-surroundings needs the clear pixels, which --no-keep-clear gives up; leave one out"
        )
