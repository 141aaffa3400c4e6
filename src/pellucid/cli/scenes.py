"""Commands on scenes: take clouds off, make pairs with clouds, demonstrate."""

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.terminal import Device, Model, Precision, out, parse_offset, progress_bar, said_plainly

DEFAULT_MODEL = "cross_attention"


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
    with said_plainly():
        from pellucid.build import load
        from pellucid.predictor import RestoreOptions, check_scene, restore_scene

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
        )
        method = load(model, device=device)
        if dry_run:
            out.print(check_scene(scene, output, sar=sar, method=method, cloud=cloud, options=options))
            return
        with progress_bar("removing clouds") as advance:
            report = restore_scene(
                scene, output, sar=sar, method=method, cloud=cloud, options=options, progress=advance
            )
        share = report.num_restored / max(report.num_valid, 1)
        out.print(f"{report.num_restored:,} of {report.num_valid:,} pixels restored ({share:.1%})")
        out.print(f"result   {report.out}", soft_wrap=True)
        if report.preview:
            out.print(f"preview  {report.preview}", soft_wrap=True)


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
        from pellucid.data.synthetic import simulate_pairs

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
        from pellucid.demo import run_demo

        with progress_bar("removing clouds") as advance:
            result = run_demo(output, size=size, seed=seed, model=model, progress=advance)
        out.print(result.evaluation.table())
        for label, path in result.files.items():
            out.print(f"{label:<9}{path}", soft_wrap=True)
