"""The command line: parse, build, call; what a user can mend ends in one sentence and exit code 2."""

import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from pellucid.errors import InputError

DEFAULT_MODEL = "cross_attention"

app = typer.Typer(
    name="pellucid",
    help="Restore what a sensor could not see: clouds off Sentinel-2 scenes, with the help of radar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Model = Annotated[
    str, typer.Option("--model", "-m", help="A model that ships (`pellucid models`) or a run folder.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option(help="bf16 is faster on GPUs and on CPUs with AMX.")
]


@app.command()
def remove_clouds(
    scene: Annotated[
        Path, typer.Argument(metavar="S2.tif", help="Sentinel-2 scene, bands named or in order.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CLEAR.tif", help="Where the result goes.")
    ],
    sar: Annotated[
        Path | None, typer.Option(metavar="S1.tif", help="Sentinel-1 VV and VH on the grid of the scene.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    cloud: Annotated[
        Path | None, typer.Option(metavar="MASK.tif", help="Cloud map, 0 to 1; else a built-in score.")
    ] = None,
    keep_clear: Annotated[
        bool, typer.Option(help="Pass clear pixels through, with a feathered edge.")
    ] = True,
    align: Annotated[bool, typer.Option(help="Warp radar and cloud map to the scene's grid.")] = False,
    offset: Annotated[
        str, typer.Option(help="DN to add before use: auto, none or a number such as -1000.")
    ] = "auto",
    tile: Annotated[int, typer.Option(min=1, help="Side of a tile in pixels.")] = 256,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")] = 32,
    device: Device = "auto",
    precision: Precision = "fp32",
    preview: Annotated[bool, typer.Option(help="Write a before / after PNG beside the result.")] = True,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted call stopped.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all input, restore nothing.")] = False,
) -> None:
    """Take the clouds off a whole Sentinel-2 scene.

    Example: `pellucid remove-clouds S2.tif --sar S1.tif -o clear.tif`
    """
    with _said_plainly():
        from pellucid.build import load
        from pellucid.predictor import RestoreOptions, check_scene, restore_scene

        options = RestoreOptions(
            tile=tile,
            overlap=overlap,
            keep_clear=keep_clear,
            precision=precision,
            device=device,
            align=align,
            offset=_offset(offset),
            preview=preview,
            resume=resume,
        )
        method = load(model, device=device)
        if dry_run:
            out.print(check_scene(scene, output, sar=sar, method=method, cloud=cloud, options=options))
            return
        with _progress("removing clouds") as advance:
            report = restore_scene(
                scene, output, sar=sar, method=method, cloud=cloud, options=options, progress=advance
            )
        share = report.num_restored / max(report.num_valid, 1)
        out.print(f"{report.num_restored:,} of {report.num_valid:,} pixels restored ({share:.1%})")
        out.print(f"result   {report.out}", soft_wrap=True)
        if report.preview:
            out.print(f"preview  {report.preview}", soft_wrap=True)


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="See configs/.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, dotted; repeatable."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run folder; default runs/<name of the config>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on exactly where the run stopped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check config, data and one step.")] = False,
) -> None:
    """Train a model and leave a run folder.

    Example: `pellucid train configs/cross_attention.yaml --set train.num_steps=500`
    """
    with _said_plainly():
        from pellucid.build import run_training
        from pellucid.config import load_config

        folder = run or Path("runs") / config.stem
        settings = load_config(config, tuple(changes or ()))
        report = run_training(settings, folder, resume=resume, dry_run=dry_run, command=_command())
        best = "" if report.best_psnr is None else f", best PSNR {report.best_psnr:.2f} dB"
        out.print(f"{report.status}: {report.num_steps} steps in {report.seconds:.0f} s{best}")
        if not dry_run:
            out.print(f"run folder  {folder}", soft_wrap=True)
        if report.status == "interrupted":
            raise typer.Exit(130)


@app.command("evaluate")
def evaluate_command(
    model: Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder or a model that ships.")],
    data: Annotated[Path, typer.Option(help="Folder of SEN12MS-CR patches, in any of its layouts.")],
    split: Annotated[Literal["train", "val", "test", "all"], typer.Option(help="Which patches.")] = "test",
    splits: Annotated[Path | None, typer.Option(help="JSON of ROIs per split, where no CSV tells.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for tables and pictures; default: in the run."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Label in the run history.")] = None,
    notes: Annotated[str, typer.Option(help="Remark in the run history.")] = "",
    legacy_metrics: Annotated[
        bool,
        typer.Option("--legacy-metrics", help="Also the published PSNR and SSIM, to compare with papers."),
    ] = False,
    pictures: Annotated[int, typer.Option(min=0, help="Patches on the picture sheet.")] = 8,
    crop: Annotated[
        int, typer.Option(min=0, help="Judge the central square of this side; 0: the whole patch.")
    ] = 0,
    device: Device = "auto",
    precision: Precision = "fp32",
) -> None:
    """Judge a model against both baselines: the untouched input and the mean spectrum.

    Example: `pellucid evaluate cross_attention --data data/sen12mscr --split test`
    """
    with _said_plainly():
        from pellucid.build import baseline_spectrum, load
        from pellucid.config import Sen12MsCrSource
        from pellucid.data.sen12ms_cr import Sen12MsCr
        from pellucid.evaluator import evaluate
        from pellucid.run import find_run

        method = load(model, device=device)
        source = Sen12MsCrSource(
            name="sen12ms_cr", root=data, split=split, splits=splits, legacy_fill=legacy_metrics
        )
        folder = output or _evaluation_folder(find_run(model))
        with _progress("evaluating") as advance:
            result = evaluate(
                method,
                Sen12MsCr(source, bands=method.optical.bands, radar=method.radar.bands),
                name=name or Path(model).name,
                notes=notes,
                out=folder,
                legacy=legacy_metrics,
                mean_spectrum=baseline_spectrum(method),
                pictures=pictures,
                crop=crop,
                device=device,
                precision=precision,
                progress=advance,
            )
        out.print(result.table())
        out.print(f"tables and pictures  {folder}", soft_wrap=True)


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; data.csv lists its pairs.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pairs.")] = 8,
    size: Annotated[int, typer.Option(min=32, help="Side of a patch in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pairs.")] = 0,
    clear: Annotated[
        Path | None, typer.Option(help="Folder of your own clear scenes; else landscapes are made up.")
    ] = None,
) -> None:
    """Make training pairs: clear scenes, the same under simulated clouds, radar and cloud maps.

    Example: `pellucid simulate pairs --count 100 --clear my_clear_scenes`
    """
    with _said_plainly():
        from pellucid.data.synthetic import simulate_pairs

        with _progress("simulating") as advance:
            listing = simulate_pairs(
                output,
                count=count,
                size=size,
                seed=seed,
                clear=clear,
                progress=lambda done: advance(done, count),
            )
        out.print(f"pairs listed in  {listing}", soft_wrap=True)


@app.command()
def models() -> None:
    """List the models that ship, with what they reach."""
    with _said_plainly():
        from pellucid.run import SHIPPED, describe, shipped_runs

        table = Table("name", "MB", "what it is")
        for name in shipped_runs():
            table.add_row(*describe(SHIPPED / name))
        out.print(table)


@app.command("import")
def import_command(
    format: Annotated[Literal["glf-cr", "cross-attention"], typer.Argument(help="Layout of the checkpoint.")],  # noqa: A002
    checkpoint: Annotated[Path, typer.Argument(help="A published .pth, .pt or .safetensors file.")],
    run: Annotated[Path, typer.Argument(help="The run folder to write.")],
    optical: Annotated[
        str, typer.Option(help="Names of the optical bands; default by their number: 13, or B04,B03,B02.")
    ] = "",
    radar: Annotated[str, typer.Option(help="Names of the radar bands; default VV,VH, or VV.")] = "",
) -> None:
    """Turn a published checkpoint into a run folder.

    Example: `pellucid import glf-cr CR_net.pth runs/glf_cr_published`
    """
    with _said_plainly():
        from pellucid.build import import_run

        import_run(format, checkpoint, run, optical=_names(optical), radar=_names(radar))
        out.print(f"run folder  {run}", soft_wrap=True)


@app.command()
def demo(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")] = Path("demo"),
    size: Annotated[int, typer.Option(min=128, help="Side of the scene in pixels.")] = 1024,
    seed: Annotated[int, typer.Option(help="Another seed makes another scene.")] = 2027,
    model: Model = DEFAULT_MODEL,
) -> None:
    """Make a cloudy scene whose truth is known, restore it and show how well that went."""
    with _said_plainly():
        from pellucid.demo import run_demo

        with _progress("removing clouds") as advance:
            result = run_demo(output, size=size, seed=seed, model=model, progress=advance)
        out.print(result.evaluation.table())
        for label, path in result.files.items():
            out.print(f"{label:<9}{path}", soft_wrap=True)


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _said_plainly() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2; warnings into one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *_, **__: err.print(f"[yellow]warning:[/] {message}")
        try:
            yield
        except InputError as error:
            err.print(f"[red]error:[/] {' '.join(str(error).split())}", soft_wrap=True)
            raise typer.Exit(2) from error


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a bar with the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _command() -> str:
    return shlex.join(["pellucid", *sys.argv[1:]])


def _offset(text: str) -> Literal["auto", "none"] | int:
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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _evaluation_folder(run: Path) -> Path:
    """Return where an evaluation goes by default: in the run, unless that ships with the package."""
    from pellucid.run import SHIPPED

    return Path("runs") / run.name / "evaluation" if SHIPPED in run.parents else run / "evaluation"
