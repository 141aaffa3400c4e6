"""The command that evaluates a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.apply.options import ApplyOptions
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
LegacyMetrics = Annotated[
    bool, typer.Option("--legacy-metrics", help="Also the published PSNR and SSIM, to compare with papers.")
]
Pictures = Annotated[int, typer.Option(min=0, help="Patches on the picture sheet.")]
Crop = Annotated[
    int, typer.Option(min=0, help="Evaluate the central square of this side; 0: the whole patch.")
]
Lpips = Annotated[
    str, typer.Option(metavar="VGG16", help="Also LPIPS, with VGG16 weights from this file or URL.")
]
Fid = Annotated[
    str,
    typer.Option(
        metavar="NETWORK",
        help="Also FID, in the features of this file: VGG19 weights, or a TorchScript module of 8-bit "
        "images, which is code that will run.",
    ),
]


@takes(ApplyOptions, hide=("eta", "seed", "tile", "overlap"))
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
    legacy_metrics: LegacyMetrics = False,
    pictures: Pictures = 8,
    crop: Crop = 0,
    lpips: Lpips = "",
    fid: Fid = "",
    *,
    options: ApplyOptions,
) -> None:
    """Evaluate a model against its baselines: the input (or bicubic) and the mean spectrum.

    Of colorized radar these are the grey radar, and the mean colour of the training images with the same
    prompt; figures are also given by region and season. An autoencoder has no baselines, but a PSNR per band.
    Of a text encoder: how many images find their own text.

    Example: `pellucid evaluate cross_attention --data data/sen12mscr --split test`

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
        legacy_fill=legacy_metrics,
        lr=lr,
        numbers=span,
        folders=split_names(folders),
        trained=load_config(run / CONFIG).data.train,
    )
    about = {"name": name or Path(model).name, "notes": notes, "out": output or _evaluation_folder(run)}
    figures = {"--legacy-metrics": legacy_metrics, "--lpips": lpips, "--fid": fid}
    if isinstance(method, Contrastive):
        _evaluate_texts(method, images, {**about, "device": options.device}, figures)
    else:
        _evaluate_images(method, images, {**about, "pictures": pictures, "crop": crop}, figures, options)


def _evaluate_images(
    method: "Method",
    images: "Patches",
    about: Mapping[str, Any],
    figures: Mapping[str, Any],
    options: ApplyOptions,
) -> None:
    """Evaluate a method that makes images, with the optional `figures`, and print the tables."""
    from pellucid.build.weights_file import load_lpips
    from pellucid.evaluation.evaluate import Extras, evaluate
    from pellucid.evaluation.fid import load_features
    from pellucid.evaluation.figures import baseline_spectrum

    lpips, fid = figures["--lpips"], figures["--fid"]
    with progress_bar("evaluating") as advance:
        result = evaluate(
            method,
            images,
            **about,
            device=options.device,
            extras=Extras(
                figures["--legacy-metrics"],
                load_lpips(lpips) if lpips else None,
                load_features(fid) if fid else None,
            ),
            mean_spectrum=baseline_spectrum(method),
            samples=options.samples,
            words=images.words,
            precision=options.precision,
            progress=advance,
        )
    out.print(result.table())
    if result.bands:
        out.print(result.band_table())
    out.print(f"tables and pictures  {about['out']}", soft_wrap=True)


def _evaluate_texts(
    method: "Contrastive", images: "Patches", about: Mapping[str, Any], figures: Mapping[str, Any]
) -> None:
    """Evaluate a text encoder and print its figures; of the optional `figures`, it has none."""
    from pellucid.evaluation.texts import evaluate_texts

    if given := [option for option, value in figures.items() if value]:
        raise InputError(f"a text encoder makes no images to compare; leave out {' and '.join(given)}")
    with progress_bar("evaluating") as advance:
        result = evaluate_texts(method, images, **about, progress=advance)
    out.print(result.table())
    out.print(f"figures  {about['out']}", soft_wrap=True)


def _evaluation_folder(run: Path) -> Path:
    """Return where an evaluation goes by default: in the run, unless that ships with the package."""
    return Path("runs") / run.name / "evaluation" if SHIPPED in run.parents else run / "evaluation"
