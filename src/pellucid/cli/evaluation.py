"""The command on models that judges them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pellucid.cli.pictures import SamplerOption
from pellucid.cli.terminal import Device, Guidance, Precision, out, progress_bar, said_plainly, split_names
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.datasets._listing import Patches
    from pellucid.methods.contrastive import Contrastive

Model = Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder or a model that ships.")]
Data = Annotated[
    Path,
    typer.Option(
        help="Folder of SEN12MS-CR patches in any layout, of pictures with lists data_r_NNN.csv, or of "
        "slices of high resolution."
    ),
]
Split = Annotated[Literal["train", "val", "test", "all"], typer.Option(help="Which patches or pictures.")]
Splits = Annotated[Path | None, typer.Option(help="JSON of ROIs per split, where no CSV tells.")]
Folders = Annotated[
    str,
    typer.Option(metavar="r_006,...", help="Region folders of pictures to judge by, in place of a split."),
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
Crop = Annotated[int, typer.Option(min=0, help="Judge the central square of this side; 0: the whole patch.")]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Sampling steps of a generative model; default: its own.")
]
Strength = Annotated[
    float | None,
    typer.Option(help="Below 1, sampling starts from the radar under so much noise; default: the model's."),
]
Samples = Annotated[int, typer.Option(min=1, help="Judge the mean of so many samples of a generative model.")]
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
    steps: Steps = None,
    guidance: Guidance = None,
    strength: Strength = None,
    sampler: SamplerOption = None,
    samples: Samples = 1,
    lpips: Lpips = "",
    fid: Fid = "",
    device: Device = "auto",
    precision: Precision = "fp32",
) -> None:
    """Judge a model against its baselines: the input (or bicubic) and the mean spectrum.

    Of radar that is given colours these are the grey radar, and the mean colour of the training images with
    the same prompt; figures are told apart by region and season. An autoencoder has no baselines; of its
    reconstructions the PSNR of each band is told too. Of a text encoder it is told how many images find
    their own text.

    Example: `pellucid evaluate cross_attention --data data/sen12mscr --split test`

    Example: `pellucid evaluate sr3_ct_x4 --data slices --numbers 310,345`

    Example: `pellucid evaluate runs/colorize --data Dataset --folders r_006`
    """
    with said_plainly():
        from pellucid.apply.color_options import ColorizeOptions, choose_sampling
        from pellucid.build.method import load
        from pellucid.build.run import CONFIG, find_run
        from pellucid.build.weights_file import load_lpips
        from pellucid.config import load_config
        from pellucid.evaluation.evaluate import Extras, evaluate
        from pellucid.evaluation.fid import load_features
        from pellucid.evaluation.figures import baseline_spectrum
        from pellucid.evaluation.reference import read_reference
        from pellucid.methods.contrastive import Contrastive

        sampling = ColorizeOptions(steps=steps, guidance=guidance, strength=strength, sampler=sampler)
        method = choose_sampling(load(model, device=device), sampling)
        images = read_reference(
            method,
            data,
            split=split,
            splits=splits,
            legacy_fill=legacy_metrics,
            lr=lr,
            numbers=_numbers(numbers),
            folders=split_names(folders),
            trained=load_config(find_run(model) / CONFIG).data.train,
        )
        folder = output or _evaluation_folder(find_run(model))
        if isinstance(method, Contrastive):
            given = {"--legacy-metrics": legacy_metrics, "--lpips": lpips, "--fid": fid}
            _judge_texts(
                method, images, folder, given, name=name or Path(model).name, notes=notes, device=device
            )
            return
        with progress_bar("evaluating") as advance:
            result = evaluate(
                method,
                images,
                name=name or Path(model).name,
                notes=notes,
                out=folder,
                extras=Extras(
                    legacy_metrics, load_lpips(lpips) if lpips else None, load_features(fid) if fid else None
                ),
                mean_spectrum=baseline_spectrum(method),
                pictures=pictures,
                crop=crop,
                samples=samples,
                words=images.words,
                device=device,
                precision=precision,
                progress=advance,
            )
        out.print(result.table())
        if result.bands:
            out.print(result.band_table())
        out.print(f"tables and pictures  {folder}", soft_wrap=True)


def _judge_texts(
    method: "Contrastive",
    images: "Patches",
    folder: Path,
    given: Mapping[str, object],
    *,
    name: str,
    notes: str,
    device: str,
) -> None:
    """Judge a text encoder and tell its figures; refuse the options in `given` that were used.

    Raises:
        InputError: saying which, or if the images do not tell texts apart.
    """
    from pellucid.evaluation.texts import evaluate_texts

    options = [option for option, wish in given.items() if wish]
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


def _evaluation_folder(run: Path) -> Path:
    """Return where an evaluation goes by default: in the run, unless that ships with the package."""
    from pellucid.build.run import SHIPPED

    return Path("runs") / run.name / "evaluation" if SHIPPED in run.parents else run / "evaluation"
