"""Commands on scenes: take clouds off, make pairs with clouds, demonstrate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.terminal import (
    Device,
    Eta,
    Guidance,
    Model,
    Precision,
    Seed,
    Steps,
    out,
    parse_offset,
    print_paths,
    progress_bar,
    said_plainly,
)

if TYPE_CHECKING:
    from pellucid.apply.remove_clouds import SceneReport

DEFAULT_MODEL = "cross_attention"

Optical = Annotated[Path, typer.Argument(metavar="S2.tif", help="Sentinel-2 scene, bands named or in order.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="CLEAR.tif", help="Where the result goes.")]
Radar = Annotated[
    Path | None, typer.Option(metavar="S1.tif", help="Sentinel-1 VV and VH on the grid of the scene.")
]
Cloud = Annotated[
    Path | None, typer.Option(metavar="MASK.tif", help="Cloud map, 0 to 1; else a built-in score.")
]
Samples = Annotated[
    int, typer.Option(min=1, help="Images drawn by a model that samples; the result is their mean.")
]
Uncertainty = Annotated[
    Path | None,
    typer.Option(metavar="STD.tif", help="Where the samples' standard deviation goes, band by band."),
]
Prompt = Annotated[str | None, typer.Option(help="What is to be seen, for a model that takes text.")]
MatchSurroundings = Annotated[
    bool, typer.Option(help="Bring restored colours into line with the clear pixels around them.")
]
KeepClear = Annotated[bool, typer.Option(help="Pass clear pixels through, with a feathered edge.")]
Align = Annotated[bool, typer.Option(help="Warp radar and cloud map to the scene's grid.")]
Offset = Annotated[str, typer.Option(help="DN to add before use: auto, none or a number such as -1000.")]
Tile = Annotated[int, typer.Option(min=1, help="Side of a tile in pixels.")]
Overlap = Annotated[int, typer.Option(min=0, help="Pixels that neighbouring tiles share.")]
Preview = Annotated[bool, typer.Option(help="Write a before / after PNG beside the result.")]
Resume = Annotated[bool, typer.Option(help="Go on where an interrupted call stopped.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all input, restore nothing.")]


def remove_clouds(
    scene: Optical,
    output: Output,
    sar: Radar = None,
    model: Model = DEFAULT_MODEL,
    cloud: Cloud = None,
    steps: Steps = None,
    samples: Samples = 1,
    uncertainty: Uncertainty = None,
    guidance: Guidance = None,
    prompt: Prompt = None,
    eta: Eta = None,
    seed: Seed = 0,
    match_surroundings: MatchSurroundings = False,
    keep_clear: KeepClear = True,
    align: Align = False,
    offset: Offset = "auto",
    tile: Tile = 256,
    overlap: Overlap = 64,
    device: Device = "auto",
    precision: Precision = "fp32",
    preview: Preview = True,
    resume: Resume = True,
    dry_run: DryRun = False,
) -> None:
    """Take the clouds off a whole Sentinel-2 scene.

    Example: `pellucid remove-clouds S2.tif --sar S1.tif -o clear.tif`
    """
    with said_plainly():
        from pellucid.apply.remove_clouds import check_scene, restore_scene
        from pellucid.apply.restore_options import RestoreOptions
        from pellucid.build.method import load

        options = RestoreOptions(
            tile=tile,
            overlap=overlap,
            keep_clear=keep_clear,
            precision=precision,
            device=device,
            align=align,
            offset=parse_offset(offset),
            preview=preview,
            resume=resume,
            steps=steps,
            eta=eta,
            guidance=guidance,
            samples=samples,
            seed=seed,
            prompt=prompt,
            match_surroundings=match_surroundings,
        )
        method = load(model, device=device)
        files = {"sar": sar, "cloud": cloud, "uncertainty": uncertainty}
        if dry_run:
            out.print(check_scene(scene, output, **files, method=method, options=options))
            return
        with progress_bar("removing clouds") as advance:
            report = restore_scene(scene, output, **files, method=method, options=options, progress=advance)
        _print_report(report)


def _print_report(report: "SceneReport") -> None:
    share = report.num_restored / max(report.num_valid, 1)
    out.print(f"{report.num_restored:,} of {report.num_valid:,} pixels restored ({share:.1%})")
    print_paths(result=report.out, spread=report.uncertainty, preview=report.preview)


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
    with said_plainly():
        from pellucid.simulate.pairs import simulate_pairs

        with progress_bar("simulating") as advance:
            listing = simulate_pairs(
                output,
                count=count,
                size=size,
                seed=seed,
                clear=clear,
                progress=lambda done: advance(done, count),
            )
        out.print(f"pairs listed in  {listing}", soft_wrap=True)


def demo(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")] = Path("demo"),
    size: Annotated[int, typer.Option(min=128, help="Side of the scene in pixels.")] = 1024,
    seed: Annotated[int, typer.Option(help="Another seed makes another scene.")] = 2027,
    model: Model = DEFAULT_MODEL,
) -> None:
    """Make a cloudy scene whose truth is known, restore it and show how well that went."""
    with said_plainly():
        from pellucid.cli.demo import run_demo

        with progress_bar("removing clouds") as advance:
            result = run_demo(output, size=size, seed=seed, model=model, progress=advance)
        out.print(result.evaluation.table())
        print_paths(**result.files)
