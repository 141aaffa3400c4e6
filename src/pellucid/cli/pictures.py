"""The command on radar pictures: colorize them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pellucid.cli.terminal import (
    Device,
    Precision,
    Seed,
    out,
    print_paths,
    progress_bar,
    said_plainly,
    split_names,
)
from pellucid.errors import InputError

if TYPE_CHECKING:
    from pellucid.apply.color_jobs import Wish
    from pellucid.methods.method import Method

Source = Annotated[
    Path,
    typer.Argument(
        metavar="IN",
        help="Radar as a grey PNG, JPEG or TIFF, or a GeoTIFF in dB or of 8 bit; a folder of such; or a "
        "dataset with data_r_NNN.csv.",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="OUT", help="Picture (.png, .jpg, .tif), or the folder of several."
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A model that ships (`pellucid models`) or a run folder."),
]
Region = Annotated[str, typer.Option(help="tropical, temperate, arctic, or another of the model's.")]
Season = Annotated[str, typer.Option(help="winter, spring, summer, autumn, fall, or another of the model's.")]
Regions = Annotated[
    str, typer.Option(metavar="A,B,...", help="Several regions: a picture of each, with each season.")
]
Seasons = Annotated[str, typer.Option(metavar="A,B,...", help="Several seasons, as --regions.")]
Prompt = Annotated[str | None, typer.Option(help="What is to be seen, in place of --region and --season.")]
NumSamples = Annotated[
    int | None, typer.Option(min=1, help="Pairs of a dataset, spread evenly over it; default 10.")
]
Folders = Annotated[
    str, typer.Option(metavar="A,B,...", help="Region folders of a dataset to choose from, such as r_006.")
]
Strength = Annotated[
    float | None,
    typer.Option(
        help="Below 1, sampling starts from the radar, or --guess, under so much noise; default: the model's."
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(min=0, help="How many times as far the text is followed; default: the model's."),
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Sampling steps; default: the model's. A --strength s takes s of them."),
]
SamplerOption = Annotated[
    Literal["ddpm", "ddim", "dpm++"] | None,
    typer.Option("--sampler", help="dpm++ needs the fewest steps; default: the model's."),
]
Guess = Annotated[
    Path | None, typer.Option(metavar="RGB", help="Picture in colour of the same place to start from.")
]
Tile = Annotated[int, typer.Option(min=1, help="Side of a tile in pixels.")]
Overlap = Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")]
Force = Annotated[bool, typer.Option("--force", help="In a folder, make pictures anew that are there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all input, colorize nothing.")]


def colorize_command(
    source: Source,
    output: Output,
    region: Region = "",
    season: Season = "",
    prompt: Prompt = None,
    regions: Regions = "",
    seasons: Seasons = "",
    model: Model = None,
    num_samples: NumSamples = None,
    folders: Folders = "",
    strength: Strength = None,
    guidance: Guidance = None,
    steps: Steps = None,
    sampler: SamplerOption = None,
    seed: Seed = 0,
    guess: Guess = None,
    tile: Tile = 256,
    overlap: Overlap = 64,
    force: Force = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    dry_run: DryRun = False,
) -> None:
    """Turn radar into a picture in colour, guided by text.

    Example: `pellucid colorize sar.png --region tropical --season summer -o out.png`

    Example: `pellucid colorize pictures --regions tropical,arctic --seasons winter,summer -o colors`
    """
    with said_plainly():
        from pellucid.apply.color_jobs import plan
        from pellucid.apply.color_options import ColorizeOptions
        from pellucid.apply.colorize import Colorizer, colorize_all
        from pellucid.build.method import load
        from pellucid.build.run import find_colorizer

        run = model or find_colorizer()
        method = load(run, device=device)
        wishes, template = _read_wishes(
            run, method, prompt, _names("region", region, regions), _names("season", season, seasons)
        )
        jobs = plan(
            source,
            output,
            wishes=wishes,
            guess=guess,
            own_prompts=template,
            num_samples=num_samples,
            folders=split_names(folders),
        )
        options = ColorizeOptions(
            steps=steps,
            guidance=guidance,
            strength=strength,
            sampler=sampler,
            seed=seed,
            tile=tile,
            overlap=overlap,
            precision=precision,
            device=device,
            force=force or jobs[0].out == output,
        )
        if dry_run:
            out.print(f"{source}: {Colorizer(jobs, method, options).describe()}", soft_wrap=True)
            return
        with progress_bar("colorizing") as advance:
            report = colorize_all(jobs, output, method=method, options=options, progress=advance)
        pictures = "picture" if report.num_done == 1 else "pictures"
        skipped = f", {report.num_skipped} were there already" if report.num_skipped else ""
        out.print(f"{report.num_done} {pictures} colorized in {report.seconds:.1f} s{skipped}")
        print_paths(result=report.out, sheet=report.sheet)


def _read_wishes(
    run: str, method: "Method", prompt: str | None, regions: tuple[str, ...], seasons: tuple[str, ...]
) -> tuple[list["Wish"], str]:
    """Return the prompts that are asked for, and, where none is, the template of a dataset's own."""
    from pellucid.apply.color_jobs import Prompts, Wish, find_template
    from pellucid.apply.color_options import check_takes_text
    from pellucid.build.run import CONFIG, find_run
    from pellucid.config import load_config

    is_asked = bool(prompt is not None or regions or seasons)
    if is_asked:
        check_takes_text(method)
    if prompt is not None:
        if regions or seasons:
            raise InputError("--prompt says all that is to be seen; leave it out, or the regions and seasons")
        return [Wish(prompt)], ""
    template = find_template(load_config(find_run(run) / CONFIG))
    wishes = Prompts(template, method.mean_colors or ()).combine(regions, seasons)
    return wishes, "" if is_asked else template


def _names(option: str, one: str, several: str) -> tuple[str, ...]:
    """Return what the options of a region, or a season, name."""
    if one and several:
        raise InputError(f"--{option} and --{option}s are both given; leave one out")
    return split_names(several) or ((one,) if one else ())
