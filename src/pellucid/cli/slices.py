"""Commands on slices: enlarge them."""

from pathlib import Path
from typing import Annotated

import typer

from pellucid.apply.options import SliceOptions
from pellucid.cli.terminal import out, print_paths, progress_bar, refuse_idle, takes, tell
from pellucid.data.run_folder import find_run

Source = Annotated[
    Path,
    typer.Argument(
        metavar="IN",
        help="PNG, TIFF or .npy (8 or 16 bit, floating point) of one or more pages, a Zarr, or a folder of "
        "files.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="File or, for a folder, folder of results.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A model that ships (`pellucid models`) or a run folder; default by factor."
    ),
]
Std = Annotated[
    Path | None,
    typer.Option(metavar="STD.tif", help="Where the spread goes, in grey values; default OUT_std.tif."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all input, enlarge nothing.")]


@takes(SliceOptions, hide=("guidance", "strength", "sampler"))
def upscale_command(
    source: Source,
    output: Output,
    model: Model = None,
    std: Std = None,
    *,
    options: SliceOptions,
    dry_run: DryRun = False,
) -> None:
    """Super-resolve slices of a tomogram; bit depth and grey values are kept.

    Example: `pellucid upscale slice.png -o big.png --factor 4`

    Example: `pellucid upscale scan.ome.zarr -o big.tif --range -1000,2000`

    Example: `pellucid upscale slices -o volume.tif --volume`
    """
    from pellucid.apply.inputs import check_slices
    from pellucid.data.slice_file import is_folder

    check_slices(source)
    goes_on = is_folder(source) and not options.volume
    refuse_idle("but on a folder of slices", no_resume=not options.resume and not goes_on)
    if model:
        find_run(model)
    from pellucid.apply.upscale import check_upscale, upscale
    from pellucid.build.method import load
    from pellucid.build.run import find_upscaler

    method = load(model or find_upscaler(options.factor), device=options.device)
    if dry_run:
        checked = check_upscale(source, output, method=method, std=std, options=options)
        out.print(checked, soft_wrap=True)
        tell(checked=checked)
        return
    with progress_bar("enlarging") as advance:
        report = upscale(source, output, method=method, std=std, options=options, progress=advance)
    tell(report=report)
    slices = "slice" if report.num_slices == 1 else "slices"
    skipped = f", {report.num_skipped} were done already" if report.num_skipped else ""
    out.print(f"{report.num_slices} {slices} enlarged in {report.seconds:.1f} s{skipped}")
    print_paths(result=report.out, spread=report.std, preview=report.preview, page=report.page)
