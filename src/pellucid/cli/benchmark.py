"""The command that puts models side by side on fixed splits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pellucid.apply.options import ApplyOptions
from pellucid.cli.terminal import (
    out,
    print_json,
    print_paths,
    progress_bar,
    refuse_idle,
    report_errors,
    say,
    split_names,
)
from pellucid.data.files import check_exists
from pellucid.data.schema import AnyPrecision

if TYPE_CHECKING:
    from pellucid.evaluation.benchmark import Plan
    from pellucid.evaluation.benchmark_data import Chosen
    from pellucid.evaluation.benchmark_report import Benchmark

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="Copy of SEN12MS-CR, or part of one; or a YAML file with a list `sources`."
    ),
]
Models = Annotated[
    str, typer.Option(metavar="all|NAME,RUN,...", help="Models that ship, run folders; all: that ship.")
]
Split = Annotated[
    str,
    typer.Option(
        metavar="strict|legacy|own|all|FILE",
        help="strict: exact ROIs, overlaps left out; legacy: as the widely reused loader has them; own: what "
        "the data say; all images; or a file with lists of places. A YAML file says itself which images.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the benchmark; default: runs/benchmark/DATA_SPLIT."),
]
NUM_THREADS = 2
Threads = Annotated[
    int | None,
    typer.Option(min=1, help=f"CPU threads with which the cost is measured; default: {NUM_THREADS}."),
]
Published = Annotated[
    Literal["none", "strict", "legacy", "both"],
    typer.Option(help="Show figures that others published beside ours, marked as theirs."),
]


@report_errors()
def benchmark_command(
    data: Data,
    models: Models = "all",
    split: Split = "strict",
    part: Annotated[Literal["train", "val", "test"], typer.Option(help="Of the split.")] = "test",
    output: Output = None,
    limit: Annotated[int, typer.Option(min=0, help="Images, spread evenly over all; 0: all.")] = 0,
    published: Published = "none",
    cost: Annotated[bool, typer.Option(help="Measure time, memory and operations.")] = True,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    precision: Annotated[AnyPrecision, typer.Option(help="Of the networks.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Put models side by side: quality with intervals over places, made-up detail, uncertainty, cost.

    Next to the input, the training mean, the mean of the scene's own clear pixels and, where there is one, an
    older date. What is done is not done again: a benchmark that was stopped goes on with the next model.

    Example: `pellucid benchmark DIR --split own --models ground,cross_attention --published strict`

    Example: `pellucid benchmark data/SEN12MSCR --split legacy --dry-run`
    """
    refuse_idle("with --no-cost", threads=not cost and threads is not None)
    check_exists(data, "name a copy of SEN12MS-CR, or a YAML file of sources")
    from pellucid.evaluation.benchmark import Plan, choose_images, find_models, run_model
    from pellucid.evaluation.benchmark_data import Selection
    from pellucid.evaluation.benchmark_report import JSON, PAGE, report, write_report

    selection = Selection(data, split, part, limit)
    options = ApplyOptions(device=device, precision=precision)
    plan = Plan(find_models(split_names(models)), selection, options, threads or NUM_THREADS, cost)
    chosen = choose_images(plan)
    folder = output or Path("runs/benchmark") / f"{data.resolve().stem}_{Path(split).stem}"
    if dry_run:
        _print_plan(plan, chosen, folder)
        return
    with _claimed(folder / JSON, folder / PAGE):
        entries = []
        for number, model in enumerate(plan.models, start=1):
            with progress_bar(f"{Path(model).name} ({number} of {len(plan.models)})") as advance:
                entries.append(run_model(plan, model, chosen, folder, advance))
        found = report(plan, chosen, entries, published)
        write_report(found, folder)
    if as_json:
        print_json(found.to_dict())
        return
    _print(found)
    print_paths(figures=folder / JSON, page=folder / PAGE)


@contextmanager
def _claimed(figures: Path, page: Path) -> Iterator[None]:
    """Hold the files of a benchmark, which replace those of one alone."""
    from pellucid.data.claims import claim_files
    from pellucid.data.ownership import check_replaceable

    check_replaceable(figures, start='{\n "timestamp": ')
    check_replaceable(page)
    with claim_files(figures, page):
        yield


def _print_plan(plan: "Plan", chosen: "Chosen", folder: Path) -> None:
    from pellucid.data.run_folder import find_run
    from pellucid.evaluation.benchmark import describe_training
    from pellucid.evaluation.benchmark_data import count_places

    out.print(f"{count_places(chosen.groups)} of {plan.selection.data}", soft_wrap=True)
    if chosen.sha256:
        out.print(f"split {plan.selection.split}: SHA-256 {chosen.sha256}", soft_wrap=True)
    for note in chosen.notes:
        say("note", note, "yellow")
    for model in plan.models:
        out.print(f"{model}: {describe_training(find_run(model), chosen)}", soft_wrap=True)
    out.print(f"results would go into {folder}", soft_wrap=True)


def _print(found: "Benchmark") -> None:
    from pellucid.evaluation.benchmark_data import count_places

    show: Callable[..., None] = out.print
    for note in found.chosen.notes:
        say("note", note, "yellow")
    for entry in found.entries:
        if entry.problem:
            say("note", f"{entry.name}: {entry.problem}", "yellow")
    if found.rows:
        show(count_places(found.chosen.groups))
        for table in found.tables():
            show(table)
    for entry in found.entries:
        show(f"{entry.name}: {entry.trained}", soft_wrap=True)
    for source in dict.fromkeys(each.source for each in found.published):
        show(f"* not measured here: {source}", soft_wrap=True)
