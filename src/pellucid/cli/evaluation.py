"""The command that evaluates a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.apply.options import ApplyOptions, Help
from pellucid.cli.terminal import out, parse_numbers, progress_bar, split_names, takes
from pellucid.data.run_folder import CONFIG, SHIPPED, find_run
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.datasets._listing import Patches
    from pellucid.methods.contrastive import Contrastive
    from pellucid.methods.method import Method

Model = Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder or a model that ships.")]
Data = Annotated[
    Path,
    typer.Option(
        help="Folder of SEN12MS-CR patches in any layout, of pictures with lists data_r_NNN.csv, of "
        "slices of high resolution, or a YAML file with a list `sources`, as in data.val of a config."
    ),
]
Split = Annotated[Literal["train", "val", "test", "all"], typer.Option(help="Which patches or pictures.")]
Splits = Annotated[Path | None, typer.Option(help="JSON of ROIs per split, where no CSV names them.")]
Folders = Annotated[
    str, typer.Option(metavar="r_006,...", help="Region folders of pictures, in place of a split.")
]
Lr = Annotated[Path | None, typer.Option(help="Slices of low resolution, same names; else they are made.")]
Numbers = Annotated[
    str, typer.Option(metavar="FIRST,LAST", help="Only the slices whose last number lies here.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for tables and pictures; default: in the run.")
]
Name = Annotated[str | None, typer.Option(help="Label in the run history.")]
Notes = Annotated[str, typer.Option(help="Remark in the run history.")]
Pictures = Annotated[int, typer.Option(min=0, help="Patches on the picture sheet.")]
Crop = Annotated[
    int, typer.Option(min=0, help="Evaluate the central square of this side; 0: the whole patch.")
]


@dataclass(frozen=True)
class EvaluationOptions(ApplyOptions):
    """How a method is applied in an evaluation, and what it gets of each patch."""

    bands: Annotated[
        str, Help("Give a model for any bands these alone; default: all of them.", metavar="B02,B03,...")
    ] = ""
    given_clouds: Annotated[
        bool,
        Help(
            "Give the cloud map of the data to a model that finds clouds itself; by default it serves the "
            "figures alone.",
            flags=("--given-clouds",),
        ),
    ] = False
    ablate_guides: Annotated[
        bool | None,
        Help(
            "Evaluate the model also without radar, without older dates and without both; default: if it "
            "takes older dates.",
            flags=("--ablate-guides/--keep-guides",),
        ),
    ] = None
    legacy_metrics: Annotated[
        bool,
        Help("Also the published PSNR and SSIM, to compare with papers.", flags=("--legacy-metrics",)),
    ] = False
    lpips: Annotated[str, Help("Also LPIPS, with VGG16 weights from this file or URL.", metavar="VGG16")] = ""
    fid: Annotated[
        str,
        Help(
            "Also FID, in the features of this file: VGG19 weights, or a TorchScript module of 8-bit images, "
            "which is code that will run.",
            metavar="NETWORK",
        ),
    ] = ""


@takes(EvaluationOptions, hide=("eta", "seed", "tile", "overlap"))
def evaluate_command(
    model: Model,
    data: Data,
    split: Split = "test",
    splits: Splits = None,
    folders: Folders = "",
    lr: Lr = None,
    numbers: Numbers = "",
    output: Output = None,
    name: Name = None,
    notes: Notes = "",
    pictures: Pictures = 8,
    crop: Crop = 0,
    *,
    options: EvaluationOptions,
) -> None:
    """Evaluate a model against its baselines: the input (or bicubic), the mean spectrum, the clear mean.

    Of colorized radar these are the grey radar, and the mean colour of the training images with the same
    prompt; figures are also given by region and season. An autoencoder has no baselines, but a PSNR per band.
    Of a text encoder: how many images find their own text.

    Example: `pellucid evaluate cross_attention --data data/sen12mscr --split test --ablate-guides`

    Example: `pellucid evaluate sr3_ct_x4 --data slices --numbers 310,345`

    Example: `pellucid evaluate runs/colorize --data Dataset --folders r_006`
    """
    span = parse_numbers("--numbers", numbers, count="two", example="310,345")
    if not data.exists():
        raise InputError(f"{data} does not exist; name a folder of images, or a YAML file of sources")

    run = find_run(model)
    from pellucid.apply.engine import choose_sampling
    from pellucid.build.method import load
    from pellucid.config import load_config
    from pellucid.evaluation.reference import read_reference
    from pellucid.methods.contrastive import Contrastive

    method = choose_sampling(load(model, device=options.device), options)
    images = read_reference(
        method,
        data,
        split=split,
        splits=splits,
        legacy_fill=options.legacy_metrics,
        lr=lr,
        numbers=span,
        folders=split_names(folders),
        trained=load_config(run / CONFIG).data.train,
    )
    about: dict[str, Any] = {
        "name": name or Path(model).name,
        "notes": notes,
        "out": output or _evaluation_folder(run),
    }
    if isinstance(method, Contrastive):
        _evaluate_texts(method, images, about, options)
    else:
        _evaluate_images(method, images, {**about, "pictures": pictures, "crop": crop}, options)


def _evaluate_images(
    method: "Method", images: "Patches", about: Mapping[str, Any], options: EvaluationOptions
) -> None:
    """Evaluate a method that makes images, and print the tables."""
    from pellucid.build.weights_file import load_lpips
    from pellucid.evaluation.evaluate import Extras, evaluate
    from pellucid.evaluation.fid import load_features
    from pellucid.evaluation.figures import baseline_spectrum
    from pellucid.evaluation.trial import Setup

    with progress_bar("evaluating") as advance:
        result = evaluate(
            method,
            images,
            **about,
            device=options.device,
            extras=Extras(
                options.legacy_metrics,
                load_lpips(options.lpips) if options.lpips else None,
                load_features(options.fid) if options.fid else None,
            ),
            setup=Setup(split_names(options.bands), options.given_clouds, options.ablate_guides),
            mean_spectrum=baseline_spectrum(method),
            samples=options.samples,
            words=images.words,
            precision=options.precision,
            progress=advance,
        )
    out.print(result.table())
    if result.bands:
        out.print(result.band_table())
    if result.guides:
        out.print(result.guide_table())
    if result.calibration:
        out.print(result.calibration_table())
    out.print(f"tables and pictures  {about['out']}", soft_wrap=True)


def _evaluate_texts(
    method: "Contrastive", images: "Patches", about: Mapping[str, Any], options: EvaluationOptions
) -> None:
    """Evaluate a text encoder and print its figures; those of images it has not."""
    from pellucid.evaluation.texts import evaluate_texts

    names = ("legacy_metrics", "lpips", "fid", "bands", "given_clouds", "ablate_guides")
    if given := [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]:
        raise InputError(f"a text encoder makes no images to compare; leave out {' and '.join(given)}")
    with progress_bar("evaluating") as advance:
        result = evaluate_texts(method, images, **about, device=options.device, progress=advance)
    out.print(result.table())
    out.print(f"figures  {about['out']}", soft_wrap=True)


def _evaluation_folder(run: Path) -> Path:
    """Return where an evaluation goes by default: in the run, unless that ships with the package."""
    return Path("runs") / run.name / "evaluation" if SHIPPED in run.parents else run / "evaluation"
