"""The command on radar pictures: colorize them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.apply.options import PictureOptions
from pellucid.cli.terminal import out, print_paths, progress_bar, refuse_idle, split_names, takes, tell
from pellucid.data.run_folder import CONFIG, find_run
from pellucid.errors import InputError, counted

if TYPE_CHECKING:
    from pellucid.apply.color_jobs import NamedPrompt
    from pellucid.apply.colorize import ColorizeReport
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
    str | None, typer.Option("--model", "-m", help="A model that ships (`pellucid models`) or a run folder.")
]
Region = Annotated[str, typer.Option(help="tropical, temperate, arctic, or another of the model's.")]
Season = Annotated[str, typer.Option(help="winter, spring, summer, autumn, fall, or another of the model's.")]
Regions = Annotated[
    str, typer.Option(metavar="A,B,...", help="Several regions: a picture of each, with each season.")
]
Seasons = Annotated[str, typer.Option(metavar="A,B,...", help="Several seasons, as --regions.")]
Prompt = Annotated[str | None, typer.Option(help="The whole prompt, in place of --region and --season.")]
NumSamples = Annotated[
    int | None, typer.Option(min=1, help="Pairs of a dataset, spread evenly over it; default 10.")
]
Folders = Annotated[
    str, typer.Option(metavar="A,B,...", help="Region folders of a dataset to choose from, such as r_006.")
]
Guess = Annotated[
    Path | None, typer.Option(metavar="RGB", help="Picture in colour of the same place to start from.")
]
Tone = Annotated[
    Path | None,
    typer.Option(metavar="RGB", help="Picture in colour, of any place, whose mean colour to take."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all input, colorize nothing.")]


@takes(PictureOptions, hide=("eta",))
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
    guess: Guess = None,
    tone: Tone = None,
    *,
    options: PictureOptions,
    dry_run: DryRun = False,
) -> None:
    """Turn radar into a picture in colour, guided by text.

    Example: `pellucid colorize sar.png --region tropical --season summer -o out.png`

    Example: `pellucid colorize pictures --regions tropical,arctic --seasons winter,summer -o colors`

    Example: `pellucid colorize sar.png --tone optical.png --temperature 1 --samples 8 -o out.png`
    """
    from pellucid.apply.inputs import check_radar_picture

    check_radar_picture(source)
    if model:
        find_run(model)
    from pellucid.apply.color_jobs import plan
    from pellucid.apply.colorize import Colorizer, colorize_all
    from pellucid.build.method import load
    from pellucid.build.run import find_colorizer

    run = model or find_colorizer()
    method = load(run, device=options.device)
    places, times = _names("region", region, regions), _names("season", season, seasons)
    prompts, template = _read_prompts(run, method, prompt, places, times)
    jobs = plan(
        source,
        output,
        prompts=prompts,
        guess=guess,
        tone=tone,
        own_prompts=template,
        num_samples=num_samples,
        folders=split_names(folders),
    )
    refuse_idle("on one picture, which is always made", force=options.force and jobs[0].out == output)
    if dry_run:
        checked = f"{source}: {Colorizer(jobs, method, options).describe(output)}"
        out.print(checked, soft_wrap=True)
        tell(checked=checked)
        return
    with progress_bar("colorizing") as advance:
        report = colorize_all(jobs, output, method=method, options=options, progress=advance)
    _print(report)


def _print(report: "ColorizeReport") -> None:
    tell(report=report)
    skipped = f", {report.num_skipped} were there already" if report.num_skipped else ""
    out.print(f"{counted(report.num_done, 'picture')} colorized in {report.seconds:.1f} s{skipped}")
    print_paths(result=report.out, sheet=report.sheet, page=report.page)


def _read_prompts(
    run: str, method: "Method", prompt: str | None, regions: tuple[str, ...], seasons: tuple[str, ...]
) -> tuple[list["NamedPrompt"], str]:
    """Return the prompts that are asked for, and, where none is, the template of a dataset's own."""
    from pellucid.apply.color_jobs import NamedPrompt, Prompts, find_template
    from pellucid.apply.colorize import check_takes_text
    from pellucid.config import load_config

    is_asked = bool(prompt is not None or regions or seasons)
    if is_asked:
        check_takes_text(method)
    if prompt is not None:
        if regions or seasons:
            raise InputError("--prompt is the whole prompt; leave it out, or the regions and seasons")
        return [NamedPrompt(prompt)], ""
    template = find_template(load_config(find_run(run) / CONFIG))
    prompts = Prompts(template, method.mean_colors or ()).combine(regions, seasons)
    return prompts, "" if is_asked else template


def _names(option: str, one: str, several: str) -> tuple[str, ...]:
    if one and several:
        raise InputError(f"--{option} and --{option}s are both given; leave one out")
    return split_names(several) or ((one,) if one else ())
