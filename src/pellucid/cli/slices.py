"""Commands on slices: enlarge them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.terminal import (
    Device,
    Eta,
    Precision,
    Seed,
    Steps,
    out,
    print_paths,
    progress_bar,
    said_plainly,
)
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.apply.stack import GreyRange


Source = Annotated[
    Path,
    typer.Argument(metavar="IN", help="PNG, 8- or 16-bit TIFF, multi-page TIFF, or a folder of such."),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="File or, for a folder, folder of results.")
]
Factor = Annotated[
    int | None, typer.Option(min=2, help="How many times larger; default: what the model does.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A model that ships (`pellucid models`) or a run folder; default by factor."
    ),
]
Samples = Annotated[
    int, typer.Option(min=1, help="Images drawn per slice: their mean, and their spread as a map.")
]
Std = Annotated[
    Path | None,
    typer.Option(metavar="STD.tif", help="Where the spread goes, in grey values; default OUT_std.tif."),
]
Tile = Annotated[int, typer.Option(min=1, help="Side of a tile, in pixels of the result.")]
Overlap = Annotated[int, typer.Option(min=0, help="Pixels over which neighbouring tiles blend.")]
GreyRangeOption = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="full|auto|LOW,HIGH",
        help="Grey values between which the model works; others are kept. full: all that the type "
        "holds; auto: the middle 99.8 % of all slices. Default: auto for 16 bit, else full.",
    ),
]
Preview = Annotated[bool, typer.Option(help="Write a PNG beside the result: bicubic, result.")]
Resume = Annotated[bool, typer.Option(help="Of a folder, leave out slices that are done.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all input, enlarge nothing.")]


def upscale_command(
    source: Source,
    output: Output,
    factor: Factor = None,
    model: Model = None,
    steps: Steps = None,
    samples: Samples = 1,
    std: Std = None,
    eta: Eta = None,
    seed: Seed = 0,
    tile: Tile = 256,
    overlap: Overlap = 32,
    grey_range: GreyRangeOption = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    preview: Preview = True,
    resume: Resume = True,
    dry_run: DryRun = False,
) -> None:
    """Super-resolve slices of a tomogram; bit depth and grey values are kept.

    Example: `pellucid upscale slice.png -o big.png --factor 4`
    """
    with said_plainly():
        from pellucid.apply.stack import UpscaleOptions
        from pellucid.apply.upscale import check_upscale, upscale
        from pellucid.build.method import load
        from pellucid.build.run import find_upscaler

        options = UpscaleOptions(
            factor=factor,
            steps=steps,
            eta=eta,
            samples=samples,
            seed=seed,
            tile=tile,
            overlap=overlap,
            grey_range=_parse_range(grey_range),
            precision=precision,
            device=device,
            preview=preview,
            resume=resume,
        )
        method = load(model or find_upscaler(factor), device=device)
        if dry_run:
            out.print(check_upscale(source, output, method=method, std=std, options=options), soft_wrap=True)
            return
        with progress_bar("enlarging") as advance:
            report = upscale(source, output, method=method, std=std, options=options, progress=advance)
        slices = "slice" if report.num_slices == 1 else "slices"
        skipped = f", {report.num_skipped} were done already" if report.num_skipped else ""
        out.print(f"{report.num_slices} {slices} enlarged in {report.seconds:.1f} s{skipped}")
        print_paths(result=report.out, spread=report.std, preview=report.preview)


def _parse_range(text: str | None) -> "GreyRange | None":
    if text is None:
        return None
    if text == "full":
        return "full"
    if text == "auto":
        return "auto"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--range is {text!r}, must be full, auto or two grey values such as 0,40000"
        ) from error
    return low, high
