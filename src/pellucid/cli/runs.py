"""Commands on models: train, average, import."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.terminal import (
    STOPPED,
    keyword,
    out,
    parse_numbers,
    print_paths,
    progress_bar,
    report_errors,
    split_names,
    tell,
    typed_command,
)
from pellucid.data.files import check_is_file
from pellucid.data.run_folder import find_curves
from pellucid.data.schema import read_yaml
from pellucid.published import check_format, known_formats
from pellucid.published._hints import Hints

if TYPE_CHECKING:
    from pellucid.train.checkpoints import TrainReport


LogDir = Annotated[
    Path | None, typer.Option(help="Folder of TensorBoard events, by run; default: the run folder.")
]
Project = Annotated[
    str, typer.Option(metavar="PROJECT", help="Send the curves to Weights & Biases too: pellucid[wandb].")
]


@report_errors()
def train_command(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG.yaml", help="See configs/; or a JSON config of SAR colorization."),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, dotted; repeatable."),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="The run folder; default runs/NAME for NAME.yaml.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on exactly where the run stopped.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="step-0001000.ckpt", help="With --resume: go on from this one, of the run or at a path."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check config, data and one step.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Draw samples as the network will see them.")
    ] = None,
    log_dir: LogDir = None,
    wandb: Project = "",
) -> None:
    """Train a model and leave a run folder.

    Example: `pellucid train configs/cross_attention.yaml --set train.num_steps=500`

    Example: `pellucid train configs/cross_attention.yaml --dry-run --sheet samples.png`

    Example: `pellucid train configs/glf_cr.yaml --resume --checkpoint best.ckpt --set train.batch=8`

    Example: `pellucid train configs/glf_cr.yaml --wandb clouds`

    With --resume, batch, rate, schedule, losses and number of steps may be others than before; what changes
    is said, and the optimiser keeps its means. On several machines, torchrun starts it: docs/training.md.
    """
    read_yaml(config)  # before torch is imported
    from pellucid.config import load_config
    from pellucid.published._settings import translate
    from pellucid.train.processes import is_first
    from pellucid.train.run_training import run_training
    from pellucid.train.tracking import Logs

    folder = run or Path("runs") / config.stem
    report = run_training(
        load_config(config, tuple(changes or ()), translate=translate),
        folder,
        resume=resume,
        checkpoint=checkpoint,
        dry_run=dry_run,
        sample_sheet=sheet,
        logs=Logs(log_dir, wandb),
        command=typed_command(),
        quiet=out.quiet,
    )
    if is_first():
        _print_report(report, None if dry_run else folder, sheet)
    if report.status == "interrupted":
        raise typer.Exit(STOPPED)


def _print_report(report: "TrainReport", folder: Path | None, sheet: Path | None) -> None:
    best = "" if report.best_psnr is None else f", best PSNR {report.best_psnr:.2f} dB"
    tell(report=report, run=folder)
    out.print(f"{report.status}: {report.num_steps} steps in {report.seconds:.0f} s{best}")
    if folder is not None:
        out.print(f"run folder  {folder}", soft_wrap=True)
    print_paths(samples=sheet, curves=None if folder is None else find_curves(folder))


@report_errors()
def average_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a trained run.")],
    last: Annotated[int, typer.Option(min=2, help="How many of the last checkpoints.")] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The new run folder; default: RUN_average.")
    ] = None,
) -> None:
    """Average the weights of the last checkpoints of a run: often better than each of them.

    Example: `pellucid average runs/glf_cr --last 5`
    """
    from pellucid.train.average import average_run

    folder = output or run.with_name(f"{run.name}_average")
    with progress_bar("averaging") as advance:
        steps = average_run(run, folder, last=last, progress=advance)
    out.print(f"mean of the weights at steps {', '.join(map(str, steps))}")
    tell(run=folder, steps=steps)
    out.print(f"run folder  {folder}", soft_wrap=True)


def _with_hints(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an option for each field of `Hints`, in place of its parameter `**hints`."""
    signature = inspect.signature(command)
    parameters = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    for field in fields(Hints):
        kind = int | None if field.type == int | None else str | None  # three axes come as one text
        annotation = Annotated[kind, typer.Option(**field.metadata)]  # type: ignore[valid-type]
        command.__annotations__[field.name] = annotation
        parameters.append(keyword(field.name, annotation))
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


@_with_hints
@report_errors()
def import_command(
    format: Annotated[  # noqa: A002
        str, typer.Argument(help=f"Layout of the checkpoint: {', '.join(known_formats())}.")
    ],
    checkpoint: Annotated[Path, typer.Argument(help="A published .pth, .pt, .ckpt or .safetensors file.")],
    run: Annotated[Path, typer.Argument(help="The run folder to write.")],
    optical: Annotated[
        str, typer.Option(help="Names of the optical bands; default by their number: 13, or B04,B03,B02.")
    ] = "",
    radar: Annotated[str, typer.Option(help="Names of the radar bands; default VV,VH, or VV.")] = "",
    **hints: Any,
) -> None:
    """Turn a published checkpoint into a run folder.

    Example: `pellucid import glf-cr CR_net.pth runs/glf_cr_published`
    """
    axes = parse_numbers("--axes", hints["axes"], count="three", example="16,56,56")
    check_format(format)
    check_is_file(checkpoint)
    from pellucid.published._read import import_run

    bands = {"optical": split_names(optical), "radar": split_names(radar)}
    with progress_bar("importing"):
        import_run(format, checkpoint, run, **bands, hints=Hints(**{**hints, "axes": axes}))
    out.print(f"run folder  {run}", soft_wrap=True)
    tell(run=run)
