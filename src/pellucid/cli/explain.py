"""The command that shows what a model does inside."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.apply.options import SceneOptions
from pellucid.cli.terminal import Model, parse_numbers, print_paths, progress_bar, takes

DEFAULT_MODEL = "ground"
# What only a result, or a model that samples, needs.
HIDDEN = (
    *("strength", "sampler", "steps", "samples", "guidance", "eta", "seed", "prompt", "precision", "overlap"),
    *("temperature", "detail", "match_surroundings", "preview", "html", "painted", "sidecars", "resume"),
)

Picture = Annotated[Path, typer.Option("--output", "-o", metavar="OUT.png", help="Where the picture goes.")]
Centre = Annotated[
    str | None,
    typer.Option("--at", metavar="ROW,COLUMN", help="Pixel about which to look; default: the middle."),
]


@takes(SceneOptions, hide=HIDDEN)
def explain_command(
    output: Picture,
    scene: Annotated[Path, typer.Argument(metavar="S2.tif", help="Sentinel-2 scene, as of remove-clouds.")],
    sar: Annotated[Path | None, typer.Option(metavar="S1.tif", help="Sentinel-1 of the same grid.")] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", metavar="OLDER.tif", help="Another date; may be repeated."),
    ] = None,
    model: Model = DEFAULT_MODEL,
    cloud: Annotated[
        Path | None, typer.Option(metavar="auto|product|MASK.tif", help="Cloud map, as of remove-clouds.")
    ] = None,
    at: Centre = None,
    *,
    options: SceneOptions,
) -> None:
    """Draw what a model does inside one tile of a scene: what is clear, what guides it, how sure it is.

    Example: `pellucid explain S2.tif --sar S1.tif -o explained.png`
    """
    from pellucid.apply.inputs import check_rasters, check_scene_model
    from pellucid.apply.scene_clouds import map_file

    centre = parse_numbers("--at", at, count="two", example="512,640")
    references = reference or []
    check_scene_model(model, references=bool(references), bands=options.bands is not None)
    check_rasters(scene, sar, map_file(cloud), references, align=options.align)
    from pellucid.apply.explain import explain_scene
    from pellucid.build.method import load

    method = load(model, device=options.device)
    guides: dict[str, Any] = {"sar": sar, "cloud": cloud, "references": references}
    with progress_bar("reading the scene") as advance:
        explain_scene(scene, output, method=method, options=options, centre=centre, reading=advance, **guides)
    print_paths(picture=output)
