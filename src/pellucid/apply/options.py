"""How a method is applied to files: every option with its meaning, which the command line repeats."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pellucid.data.schema import AnyPrecision
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.data.raster import Offset
    from pellucid.generative.sampler import Solver
    from pellucid.methods.method import Method

Sampler = Literal["ddpm", "ddim", "dpm++"]
# Fresh noise (eta) and solver of each.
SAMPLERS: "dict[Sampler, tuple[float, Solver]]" = {
    "ddpm": (1.0, "euler"),
    "ddim": (0.0, "euler"),
    "dpm++": (0.0, "dpm++"),
}
GreyRange = Literal["full", "auto"] | tuple[float, float]
ScorerName = Literal["ground", "s2cloudless", "built-in"]


@dataclass(frozen=True)
class Help:
    """What an option means, and without which of other options it has no effect.

    A field without it has no place on the command line.
    """

    text: str
    min: float | None = None
    max: float | None = None
    flags: tuple[str, ...] = ()  # names on the command line; none: that of the field
    metavar: str | None = None  # what stands for the value
    parse: Callable[[str], Any] | None = None  # of what is typed; None: the field's type does it
    needs: tuple[str, ...] = ()  # one of these options, by the names of their parameters


def parse_offset(text: str) -> "Offset":
    """Return what --offset means."""
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    try:
        return int(text)
    except ValueError as error:
        raise InputError(
            f"--offset is {text!r}, must be auto, none or a whole number such as -1000"
        ) from error


def parse_range(text: str) -> GreyRange:
    """Return what --range means."""
    if text == "full":
        return "full"
    if text == "auto":
        return "auto"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--range is {text!r}, must be full, auto or two grey values such as 0,40000"
        ) from error
    return low, high


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names of a list parted by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


# Options that name radar, and files on the grid of a scene.
RADAR = ("sar", "sar_dir")
GUIDES = (*RADAR, "reference", "reference_dir", "cloud")
SarUnits = Annotated[
    Literal["auto", "db", "power", "amplitude"],
    Help("Unit of the radar; auto: the file and its values tell it, or it is refused.", needs=RADAR),
]


@dataclass(frozen=True)
class ApplyOptions:
    """How any method is applied; where the default is None, the model's config says."""

    steps: Annotated[int | None, Help("Sampling steps; few are quick, default: the model's.", min=1)] = None
    samples: Annotated[
        int, Help("Images drawn by a model that samples; the result is their mean.", min=1)
    ] = 1
    guidance: Annotated[
        float | None,
        Help(
            "Classifier-free guidance scale; other than 1, each step calls the network twice. Default: the "
            "model's.",
            min=0,
        ),
    ] = None
    strength: Annotated[
        float | None,
        Help(
            "Below 1, sampling starts from the input under so much noise, and takes this share of the steps; "
            "default: the model's.",
            0,
            1,
        ),
    ] = None
    sampler: Annotated[
        Sampler | None, Help("dpm++ needs the fewest steps, ddpm draws fresh noise; default: the model's.")
    ] = None
    eta: Annotated[
        float | None,
        Help("Fresh noise per step: 0 deterministic, 1 ancestral sampling; default: the model's.", 0, 1),
    ] = None
    temperature: Annotated[
        float | None,
        Help(
            "Noise that sampling starts from, as a share of what was trained; with one step, 0 is nearest to "
            "the truth. Default: the model's.",
            0,
            1,
        ),
    ] = None
    detail: Annotated[
        float | None,
        Help(
            "Pixels: with a prior of broad colours, only detail finer than this is drawn; 0: none, inf: all. "
            "Default: the model's.",
            0,
        ),
    ] = None
    seed: Annotated[int, Help("The same seed makes the same image.")] = 0
    tile: Annotated[
        int | None,
        Help("Side of a tile, in pixels of the result; default: what suits the model.", min=1),
    ] = None
    overlap: Annotated[
        int | None,
        Help("Pixels that neighbouring tiles share; default: what suits the model.", min=0),
    ] = None
    batch: int = 0
    """Tiles that go through the network together; 0: 1 on a CPU, 8 on a GPU."""
    device: Annotated[str, Help("auto, cpu, cuda or cuda:N.")] = "auto"
    precision: Annotated[
        AnyPrecision,
        Help(
            "bf16 is faster on GPUs and on CPUs with AMX; auto takes it where it is, if the model is as good "
            "in it, which is tried out once for each model and remembered."
        ),
    ] = "auto"
    compile: Annotated[
        bool,
        Help(
            "Compile the network first (torch.compile): a minute or so, after which a GPU is up to a third "
            "faster; for many tiles."
        ),
    ] = False


@dataclass(frozen=True)
class SceneOptions(ApplyOptions):
    """How clouds are taken off a scene."""

    prompt: Annotated[str | None, Help("Prompt, for a model that takes text; default: by its template.")] = (
        None
    )
    match_surroundings: Annotated[
        bool, Help("Bring restored colours into line with the clear pixels around them.")
    ] = False
    keep_clear: Annotated[bool, Help("Pass clear pixels through, with a feathered edge.")] = True
    cloud_threshold: float = 0.5
    """Cloud probability above which a pixel is restored."""
    margin_px: int = 4
    """Pixels around clouds that are restored too."""
    feather_px: int = 16
    """Width of the edge over which restored pixels pass into unchanged ones."""
    align: Annotated[
        bool, Help("Warp radar, references and cloud map to the scene's grid.", needs=GUIDES)
    ] = False
    bands: Annotated[
        tuple[str, ...] | None,
        Help(
            "What the scene's bands are, by position, if it does not say so; - for one to leave alone.",
            metavar="B02,B03,...",
            parse=parse_names,
        ),
    ] = None
    polarisations: Annotated[
        tuple[str, ...] | None,
        Help(
            "What the bands of the radar are, by position, if it does not say so.",
            metavar="VV,VH",
            parse=parse_names,
            needs=RADAR,
        ),
    ] = None
    sar_units: SarUnits = "auto"
    cloud_scale: Annotated[
        float | None,
        Help(
            "Value of the cloud map that means certainly cloud: 1, 100 or 255; default: its values tell.",
            1,
            65535,
            needs=("cloud",),
        ),
    ] = None
    offset: Annotated[
        "Offset", Help("DN to add before use: auto, none or a number such as -1000.", parse=parse_offset)
    ] = "auto"
    allow_missing: tuple[str, ...] = ()
    """Bands that the scene may lack; the network then sees 0."""
    preview: Annotated[bool, Help("Write a before / after PNG beside the result.")] = True
    html: Annotated[bool, Help("Write a page beside the result, CLEAR.html, to look at it in a browser.")] = (
        True
    )
    painted: Annotated[
        bool, Help("Write where and how much was painted, 0 to 255, beside the result: OUT_painted.tif.")
    ] = True
    sidecars: Annotated[
        bool, Help("Write styles for QGIS (.qml) and a STAC Item (.json) beside the result.")
    ] = True
    truth: Path | None = None
    """The scene without clouds, where it is known: a file on the same grid, which the page shows too."""
    resume: Annotated[bool, Help("Go on where an interrupted call stopped.")] = True


@dataclass(frozen=True)
class SliceOptions(ApplyOptions):
    """How slices are enlarged."""

    factor: Annotated[int | None, Help("How many times larger; default: what the model does.", min=2)] = None
    overlap: Annotated[int, Help("Pixels over which neighbouring tiles blend, at least.", min=0)] = 32
    volume: Annotated[
        bool,
        Help(
            "Enlarge along the third axis, too: the slices of a file or a folder become one file of factor "
            "times as many.",
            flags=("--volume",),
        ),
    ] = False
    grey_range: Annotated[
        GreyRange | None,
        Help(
            "Grey values between which the model works; others are kept. full: all that the type holds; "
            "auto: the middle 99.8 % of all slices. Default: full for 8 bit, else auto.",
            flags=("--range",),
            metavar="full|auto|LOW,HIGH",
            parse=parse_range,
        ),
    ] = None
    preview: Annotated[bool, Help("Write a PNG beside the result: bicubic, result.")] = True
    html: Annotated[bool, Help("Write a page beside the result, to look at it in a browser.")] = True
    resume: Annotated[bool, Help("Of a folder, leave out slices that are done.")] = True


@dataclass(frozen=True)
class PictureOptions(ApplyOptions):
    """How radar is colorized."""

    steps: Annotated[
        int | None, Help("Sampling steps, 1 to 1000; few are quick, default: the model's.", 1, 1000)
    ] = None
    guidance: Annotated[
        float | None,
        Help("Classifier-free guidance scale, 1 to 20: how closely the text is followed.", 1, 20),
    ] = None
    sar_units: SarUnits = "auto"
    html: Annotated[bool, Help("Write a page beside the result, to look at it in a browser.")] = True
    force: Annotated[
        bool, Help("In a folder, make all pictures anew, also those that still stand.", flags=("--force",))
    ] = False


@dataclass(frozen=True)
class CloudMapOptions:
    """How clouds are mapped."""

    scorer: Annotated[
        ScorerName,
        Help("s2cloudless (pip install 'pellucid[clouds]'), the model ground, or a score by simple rules."),
    ] = "s2cloudless"
    threshold: Annotated[
        float, Help("Mask: mean probability above which is cloud.", 0, 1, needs=("mask", "preview"))
    ] = 0.4
    average_over: Annotated[
        int, Help("Mask: radius in pixels of the disk that averages; 0: none.", min=0, needs=("mask",))
    ] = 4
    dilation_size: Annotated[
        int, Help("Mask: radius in pixels by which clouds grow; 0: none.", min=0, needs=("mask",))
    ] = 2
    all_bands: Annotated[
        bool, Help("Scenes have all 13 bands; else the 10 that s2cloudless uses suffice.")
    ] = True
    offset: Annotated[
        "Offset", Help("DN to add before use: auto, none or a number such as -1000.", parse=parse_offset)
    ] = "auto"
    pattern: Annotated[str, Help("Which files are scenes, such as `**/*_S2_*.tif`.")] = "**/*"
    workers: Annotated[int, Help("Processes that share the scenes.", min=1, flags=("--workers", "-w"))] = 1
    force: Annotated[bool, Help("Make all maps anew, also those that still stand.", flags=("--force",))] = (
        False
    )
    preview: Annotated[bool, Help("Draw scenes and maps on a sheet, OUT/clouds.png.")] = True


def choose_sampling(method: "Method", options: ApplyOptions) -> "Method":
    """Return the method with the options' sampling."""
    from pellucid.methods.sampling import with_sampling

    if options.sampler and method.sampling is None:
        raise InputError("this model takes no steps; leave out --sampler or choose another --model")
    if options.sampler == "ddpm" and method.start_noise is not None:
        raise InputError(
            "this model starts from its input image, which takes no fresh noise; choose another --sampler "
            "than ddpm"
        )
    eta, solver = SAMPLERS[options.sampler] if options.sampler else (options.eta, None)
    return with_sampling(
        method,
        steps=options.steps,
        eta=eta,
        guidance=options.guidance,
        strength=options.strength,
        solver=solver,
        temperature=options.temperature,
        detail=options.detail,
    )
