"""The command that evaluates a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pellucid.apply.options import ApplyOptions, Help
from pellucid.cli.terminal import out, parse_numbers, print_paths, progress_bar, split_names, takes, tell
from pellucid.data.files import check_exists
from pellucid.data.run_folder import CONFIG, SHIPPED, find_curves, find_run
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
        "slices of high resolution; one list in CSV (as data.csv or data_r_NNN.csv); or a YAML file with a "
        "list `sources`, as in data.val of a config."
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
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder in which each evaluation gets one of its own, and all a line in evaluations.csv and "
        ".json; default: evaluations/ in the run.",
    ),
]
Name = Annotated[
    str | None, typer.Option(help="Name of the evaluation and its folder; default: MODEL_DATA_SPLIT.")
]


@dataclass(frozen=True)
class EvaluationOptions(ApplyOptions):
    """How a method is applied in an evaluation, and what it gets of each patch."""

    notes: Annotated[str, Help("Remark that is kept with the figures.")] = ""
    sheet: Annotated[int, Help("Patches on the picture sheet.", min=0)] = 8
    pictures: Annotated[
        bool, Help("Also write input, result, truth and error of every image.", flags=("--pictures",))
    ] = False
    html: Annotated[bool, Help("Write a page with every image, its figures and pictures.")] = True
    crop: Annotated[int, Help("Evaluate the central square of this side; 0: the whole patch.", min=0)] = 0
    single_batch: Annotated[
        bool,
        Help("Evaluate the first --batch images alone, for a quick look.", flags=("--single-batch",)),
    ] = False
    batch: Annotated[
        int, Help("Images that go through the network together, where neighbours have one size.", min=1)
    ] = 1
    cloud_threshold: Annotated[
        float,
        Help("Cloud probability above which a pixel counts as cloudy; the GLF-CR script has 0.2.", 0, 1),
    ] = 0.5
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
    tone: Annotated[
        Path | None,
        Help("Picture in colour whose mean colour each result gets, as by `colorize --tone`.", metavar="RGB"),
    ] = None
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
    *,
    options: EvaluationOptions,
) -> None:
    """Evaluate a model against its baselines: the input (or bicubic), mean spectrum, clear mean, older date.

    Of colorized radar these are the grey radar, and the mean colour of the training images with the same
    prompt; figures are also given by region and season. An autoencoder has no baselines, but a PSNR per band.
    Of a text encoder: how many images find their own text.

    Each call leaves a folder of its own, with figures, a table per image and pictures; `pellucid compare`
    puts several side by side.

    Example: `pellucid evaluate cross_attention --data data/SEN12MSCR --splits configs/sen12ms_cr_splits.json`

    Example: `pellucid evaluate runs/glf_cr --data DIR/data.csv --crop 128 --cloud-threshold 0.2 --pictures`

    Example: `pellucid evaluate sr3_ct_x4 --data slices --numbers 310,345`

    Example: `pellucid evaluate runs/colorize --data data/Dataset --folders r_006 --tone optical.png`
    """
    span = parse_numbers("--numbers", numbers, count="two", example="310,345")
    check_exists(data, "name a folder of images, or a YAML file of sources")
    run = find_run(model)
    from pellucid.apply.options import choose_sampling
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
    which = "" if data.suffix in (".yaml", ".yml") else folders or split
    about: dict[str, Any] = {
        "name": name or "_".join(filter(None, [Path(model).name, data.resolve().stem, which])),
        "out": output or _evaluations_folder(run),
        "settings": {"model": model, "data": str(data), "split": which, **_sampling_settings(method)},
    }
    evaluate: Any = _evaluate_texts if isinstance(method, Contrastive) else _evaluate_images
    evaluate(method, images, about, options)


def _sampling_settings(method: "Method") -> dict[str, float]:
    """Return how a generative method samples, for the record."""
    sampling = method.sampling
    return {} if sampling is None else {"steps": sampling.steps, "guidance": sampling.guidance}


def _evaluate_images(
    method: "Method", images: "Patches", about: Mapping[str, Any], options: EvaluationOptions
) -> None:
    """Evaluate a method that makes images, and print the tables."""
    from pellucid.build.weights_file import load_lpips
    from pellucid.data.radar_picture import read_tone
    from pellucid.evaluation.evaluate import Extras, Record, evaluate
    from pellucid.evaluation.fid import load_features
    from pellucid.evaluation.figures import baseline_spectrum
    from pellucid.evaluation.folder import PAGE
    from pellucid.evaluation.trial import Setup

    settings = {**about["settings"], "bands": options.bands, "precision": options.precision}
    bands, tone = split_names(options.bands), ()
    if options.tone:
        settings["tone"], tone = str(options.tone), tuple(read_tone(options.tone).tolist())
    with progress_bar("evaluating") as advance:
        result = evaluate(
            method,
            images,
            name=about["name"],
            out=about["out"],
            record=Record(
                *(options.notes, settings, options.sheet, options.pictures, images.words, options.html),
                curves=find_curves(find_run(about["settings"]["model"])),
            ),
            extras=Extras(
                options.legacy_metrics,
                load_lpips(options.lpips) if options.lpips else None,
                load_features(options.fid) if options.fid else None,
            ),
            setup=Setup(
                bands, options.given_clouds, options.ablate_guides, options.crop, options.batch, tone
            ),
            mean_spectrum=baseline_spectrum(method),
            cloud_threshold=options.cloud_threshold,
            samples=options.samples,
            limit=options.batch if options.single_batch else 0,
            device=options.device,
            precision=options.precision,
            progress=advance,
        )
    out.print(result.table())
    if result.bands:
        out.print(result.band_table())
    if pores := result.pore_table():
        out.print(pores)
    if result.guides:
        out.print(result.guide_table())
    if result.calibration:
        out.print(result.calibration_table())
    tell(figures=result.to_dict())
    page = result.folder / PAGE if options.html and result.folder else None
    print_paths(folder=result.folder, page=page)


def _evaluate_texts(
    method: "Contrastive", images: "Patches", about: Mapping[str, Any], options: EvaluationOptions
) -> None:
    """Evaluate a text encoder and print its figures; those of images it has not."""
    from pellucid.evaluation.texts import evaluate_texts

    names = (
        "legacy_metrics",
        "lpips",
        "fid",
        "bands",
        "given_clouds",
        "ablate_guides",
        "pictures",
        "crop",
        "tone",
    )
    if given := [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]:
        raise InputError(f"a text encoder makes no images to compare; leave out {' and '.join(given)}")
    with progress_bar("evaluating") as advance:
        result = evaluate_texts(
            method, images, **about, notes=options.notes, device=options.device, progress=advance
        )
    out.print(result.table())
    out.print(f"figures  {about['out'] / result.name}", soft_wrap=True)
    tell(figures=result, files={"folder": about["out"] / result.name})


def _evaluations_folder(run: Path) -> Path:
    """Return where evaluations go by default: in the run, unless that ships with the package."""
    return (Path("runs") / run.name if SHIPPED in run.parents else run) / "evaluations"
