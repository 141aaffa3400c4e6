"""The command that evaluates a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.apply.options import ApplyOptions
from pellucid.cli.terminal import out, progress_bar, split_names, takes
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.config import Source
    from pellucid.datasets._listing import Patches
    from pellucid.methods.contrastive import Contrastive
    from pellucid.methods.method import Method

Model = Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder or a model that ships.")]
Data = Annotated[
    Path,
    typer.Option(
        help="Folder of SEN12MS-CR patches in any layout, of pictures with lists data_r_NNN.csv, or of "
        "slices of high resolution."
    ),
]
Split = Annotated[Literal["train", "val", "test", "all"], typer.Option(help="Which patches or pictures.")]
Splits = Annotated[Path | None, typer.Option(help="JSON of ROIs per split, where no CSV names them.")]
Folders = Annotated[
    str,
    typer.Option(metavar="r_006,...", help="Region folders of pictures, in place of a split."),
]
Lr = Annotated[Path | None, typer.Option(help="Slices of low resolution, same names; else they are made.")]
Numbers = Annotated[
    str, typer.Option(metavar="FIRST,LAST", help="Only the slices whose last number lies here.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder for tables and pictures; default: in the run."),
]
Name = Annotated[str | None, typer.Option(help="Label in the run history.")]
Notes = Annotated[str, typer.Option(help="Remark in the run history.")]
LegacyMetrics = Annotated[
    bool,
    typer.Option("--legacy-metrics", help="Also the published PSNR and SSIM, to compare with papers."),
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
    span = _numbers(numbers)
    if not data.exists():
        raise InputError(f"{data} does not exist; name a folder of patches, of pictures or of slices")
    from pellucid.apply.engine import choose_sampling
    from pellucid.build.method import load
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
        trained=_read_trained(model),
    )
    folder = output or _evaluation_folder(model)
    figures = {"legacy": legacy_metrics, "lpips": lpips, "fid": fid}
    about = {"name": name or Path(model).name, "notes": notes}
    if isinstance(method, Contrastive):
        _evaluate_texts(method, images, folder, figures, **about, device=options.device)
    else:
        _evaluate_images(
            method, images, folder, figures, **about, pictures=pictures, crop=crop, options=options
        )


def _evaluate_images(
    method: "Method",
    images: "Patches",
    folder: Path,
    figures: Mapping[str, Any],
    *,
    name: str,
    notes: str,
    pictures: int,
    crop: int,
    options: ApplyOptions,
) -> None:
    """Evaluate a method that makes images, with the optional `figures`, and print the tables."""
    from pellucid.build.weights_file import load_lpips
    from pellucid.evaluation.evaluate import Extras, evaluate
    from pellucid.evaluation.fid import load_features
    from pellucid.evaluation.figures import baseline_spectrum

    with progress_bar("evaluating") as advance:
        result = evaluate(
            method,
            images,
            name=name,
            notes=notes,
            out=folder,
            extras=Extras(
                figures["legacy"],
                load_lpips(figures["lpips"]) if figures["lpips"] else None,
                load_features(figures["fid"]) if figures["fid"] else None,
            ),
            mean_spectrum=baseline_spectrum(method),
            pictures=pictures,
            crop=crop,
            samples=options.samples,
            words=images.words,
            device=options.device,
            precision=options.precision,
            progress=advance,
        )
    out.print(result.table())
    if result.bands:
        out.print(result.band_table())
    out.print(f"tables and pictures  {folder}", soft_wrap=True)


def _evaluate_texts(
    method: "Contrastive",
    images: "Patches",
    folder: Path,
    figures: Mapping[str, Any],
    *,
    name: str,
    notes: str,
    device: str,
) -> None:
    """Evaluate a text encoder and print its figures; of the optional `figures`, it has none."""
    from pellucid.evaluation.texts import evaluate_texts

    given = {"--legacy-metrics": "legacy", "--lpips": "lpips", "--fid": "fid"}
    options = [option for option, figure in given.items() if figures[figure]]
    if options:
        raise InputError(f"a text encoder makes no images to compare; leave out {' and '.join(options)}")
    with progress_bar("evaluating") as advance:
        result = evaluate_texts(
            method, images, name=name, notes=notes, out=folder, device=device, progress=advance
        )
    out.print(result.table())
    out.print(f"figures  {folder}", soft_wrap=True)


def _numbers(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    try:
        first, last = (int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--numbers is {text!r}, must be two whole numbers such as 310,345") from error
    return first, last


def _read_trained(model: str) -> "tuple[Source, ...]":
    """Return the sources that a run was trained on."""
    from pellucid.build.run import CONFIG, find_run
    from pellucid.config import load_config

    return load_config(find_run(model) / CONFIG).data.train


def _evaluation_folder(model: str) -> Path:
    """Return where an evaluation goes by default: in the run, unless that ships with the package."""
    from pellucid.build.run import SHIPPED, find_run

    run = find_run(model)
    return Path("runs") / run.name / "evaluation" if SHIPPED in run.parents else run / "evaluation"
