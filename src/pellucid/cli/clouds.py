"""The command that maps clouds."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pellucid.cli.terminal import err, out, parse_offset, print_paths, progress_bar, said_plainly

Scenes = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="Sentinel-2 scenes, bands named or in order; or one scene."),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Folder of the maps, named like the scenes.")
]
Mask = Annotated[
    Path | None,
    typer.Option(metavar="MASKS", help="Folder for masks too: 1 cloud, 0 clear, 255 no data."),
]
Scorer = Annotated[
    Literal["s2cloudless", "built-in"],
    typer.Option(help="s2cloudless (pip install 'pellucid[clouds]'), or a score that needs nothing."),
]
Threshold = Annotated[float, typer.Option(min=0, max=1, help="Mask: mean probability above which is cloud.")]
AverageOver = Annotated[
    int, typer.Option(min=0, help="Mask: radius in pixels of the disk that averages; 0: none.")
]
DilationSize = Annotated[
    int, typer.Option(min=0, help="Mask: radius in pixels by which clouds grow; 0: none.")
]
AllBands = Annotated[
    bool, typer.Option(help="Scenes have all 13 bands; else the 10 that s2cloudless uses suffice.")
]
Offset = Annotated[str, typer.Option(help="DN to add before use: auto, none or a number such as -1000.")]
Pattern = Annotated[str, typer.Option(help="Which files are scenes, such as '**/*_S2_*.tif'.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes that share the scenes.")]
Force = Annotated[bool, typer.Option("--force", help="Make maps anew that are there.")]
Preview = Annotated[bool, typer.Option(help="Draw scenes and maps on a sheet, OUT/clouds.png.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all scenes, write nothing.")]


def clouds_command(
    scenes: Scenes,
    output: Output,
    mask: Mask = None,
    scorer: Scorer = "s2cloudless",
    threshold: Threshold = 0.4,
    average_over: AverageOver = 4,
    dilation_size: DilationSize = 2,
    all_bands: AllBands = True,
    offset: Offset = "auto",
    pattern: Pattern = "**/*",
    workers: Workers = 1,
    force: Force = False,
    preview: Preview = True,
    dry_run: DryRun = False,
) -> None:
    """Map cloud probability of every Sentinel-2 scene in a folder, for `remove-clouds --cloud`.

    A scene that cannot be used is listed at the end and makes the exit code 1.

    Example: `pellucid clouds scenes -o cloud_maps`
    """
    with said_plainly():
        from pellucid.apply.cloud_jobs import CloudOptions
        from pellucid.apply.map_clouds import check_clouds, map_clouds

        options = CloudOptions(
            scorer=scorer,
            threshold=threshold,
            average_over=average_over,
            dilation_size=dilation_size,
            all_bands=all_bands,
            offset=parse_offset(offset),
            pattern=pattern,
            workers=workers,
            force=force,
            preview=preview,
        )
        if dry_run:
            report = check_clouds(scenes, output, masks=mask, options=options)
        else:
            with progress_bar("mapping clouds") as advance:
                report = map_clouds(scenes, output, masks=mask, options=options, progress=advance)
        done = "would be mapped" if dry_run else f"mapped in {report.seconds:.1f} s"
        skipped = f", {report.num_skipped} were there already" if report.num_skipped else ""
        out.print(f"{report.num_done} scenes {done}{skipped}")
        print_paths(maps=report.out if report.num_done and not dry_run else None, preview=report.sheet)
        for failure in report.failures:
            reason = (
                failure.reason if str(failure.path) in failure.reason else f"{failure.path}: {failure.reason}"
            )
            err.print(f"[red]failed:[/] {' '.join(reason.split())}", soft_wrap=True)
    if report.failures:
        raise typer.Exit(1)
