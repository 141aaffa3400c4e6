"""Commands on scenes: take clouds off, map clouds, make pairs with clouds, demonstrate."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.apply.options import CloudMapOptions, SceneOptions
from pellucid.cli.terminal import (
    Model,
    out,
    print_json,
    print_paths,
    progress_bar,
    progress_bars,
    refuse_idle,
    report_errors,
    say,
    takes,
    tell,
)
from pellucid.errors import InputError

DEFAULT_MODEL = "ground"

Optical = Annotated[
    Path | None,
    typer.Argument(
        metavar="S2.tif", help="Sentinel-2 scene, bands named or in order, or a product: .SAFE or .zip."
    ),
]
BandFiles = Annotated[
    Path | None,
    typer.Option("--optical", metavar="'B*.jp2'", help="In place of S2.tif: files of one band each."),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="CLEAR.tif", help="Where the result goes.")]
Radar = Annotated[
    Path | None, typer.Option(metavar="S1.tif", help="Sentinel-1 VV and VH on the grid of the scene.")
]
Cloud = Annotated[
    Path | None,
    typer.Option(
        metavar="auto|product|MASK.tif",
        help="Cloud map, 0 to 1; product: that of the Level-2A product; auto: what serves the model best.",
    ),
]
References = Annotated[
    list[Path] | None,
    typer.Option("--reference", metavar="OLDER.tif", help="Another date of the place; may be repeated."),
]
Uncertainty = Annotated[
    Path | None,
    typer.Option(metavar="STD.tif", help="Where the standard deviation goes, band by band."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all input, restore nothing.")]
Scenes = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Sentinel-2 scenes, bands named or in order; or one scene.")
]
Maps = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Folder of the maps, named like the scenes.")
]
Mask = Annotated[
    Path | None, typer.Option(metavar="MASKS", help="Folder for masks too: 1 cloud, 0 clear, 255 no data.")
]
SarDir = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Of many scenes: radar, paired by name, or by place and day."),
]
ReferenceDir = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Of many scenes: other dates, paired by name, or by place."),
]
Part = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Of many scenes, restore one of so many parts, for job arrays."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=1, help="Processes that share many scenes; default: as memory allows."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:8786", help="Dask cluster that restores many scenes, a task for each."),
]
SharedContext = Annotated[
    bool,
    typer.Option(
        "--shared-context", help="Of many scenes: those of one day, by their names, show each other's ground."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what was done as JSON, for scripts.")]
EstimateOnly = Annotated[
    bool, typer.Option("--estimate", help="Say what time, memory and disk it takes; restore nothing.")
]
DryMaps = Annotated[bool, typer.Option("--dry-run", help="Check all scenes, write nothing.")]


def _is_list(given: Mapping[str, Any]) -> bool:
    """Whether the scenes are listed, with their guides."""
    return given["scene"] is not None and given["scene"].suffix.lower() == ".csv"


@takes(SceneOptions, hide=("strength", "sampler"), has_all=_is_list)
def remove_clouds(
    output: Output,
    scene: Optical = None,
    optical: BandFiles = None,
    sar: Radar = None,
    reference: References = None,
    model: Model = DEFAULT_MODEL,
    cloud: Cloud = None,
    uncertainty: Uncertainty = None,
    sar_dir: SarDir = None,
    reference_dir: ReferenceDir = None,
    part: Part = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    shared_context: SharedContext = False,
    *,
    options: SceneOptions,
    dry_run: DryRun = False,
    estimate_only: EstimateOnly = False,
    as_json: AsJson = False,
) -> None:
    """Take the clouds off a whole Sentinel-2 scene, or off many.

    Example: `pellucid remove-clouds S2.tif --sar S1.tif -o clear.tif`

    Many: `pellucid remove-clouds 'scenes/*.tif' --sar-dir s1 -o out`
    """
    from pellucid.apply.scene_clouds import map_file
    from pellucid.cli.many import Many, is_many, restore_many

    files: dict[str, Any] = {"sar": sar, "cloud": cloud, "references": reference or []}
    files["uncertainty"] = uncertainty
    for_many: dict[str, Any] = {
        "sar_dir": sar_dir,
        "reference_dir": reference_dir,
        "part": part,
        "workers": workers,
    }
    for_many |= {"scheduler": scheduler, "shared_context": shared_context}
    refuse_idle("with --scheduler", workers=scheduler is not None and workers is not None)
    if dry_run and estimate_only:
        raise InputError("--dry-run restores nothing, nor does --estimate; leave one out")
    scene = _one_scene(scene, optical)
    if optical is None and is_many(scene):
        words = files | {"cloud": map_file(cloud)}
        _refuse(words, f"{scene} is many scenes, whose guides lie in folders or in a list")
        for_many |= {"cloud": cloud, "dry_run": dry_run, "estimate": estimate_only, "as_json": as_json}
        restore_many(Many(scene, output, model, options, **for_many))
        return
    what, where = ("a folder, taken for one product", scene) if scene.is_dir() else ("one scene", "scenes")
    _refuse(for_many, f"{scene} is {what}; quote a pattern such as '{where}/*.tif' for many")
    _restore_one(
        scene, output, model, files, options, dry_run=dry_run, estimate_only=estimate_only, as_json=as_json
    )


def _refuse(given: dict[str, Any], reason: str) -> None:
    """Refuse options that are given but have no meaning here."""
    for name, value in given.items():
        if value:
            option = "reference" if name == "references" else name.replace("_", "-")
            raise InputError(f"--{option} does not apply: {reason}")


def _restore_one(
    scene: Path,
    output: Path,
    model: str,
    files: dict[str, Any],
    options: SceneOptions,
    *,
    dry_run: bool,
    estimate_only: bool,
    as_json: bool,
) -> None:
    """Check and restore one scene."""
    from pellucid.apply.inputs import check_bands, check_rasters, check_scene_model
    from pellucid.apply.outputs import SceneOutputs
    from pellucid.apply.scene_clouds import map_file

    sar, cloud, references, uncertainty = files.values()
    check_scene_model(model, references=bool(references), bands=options.bands is not None)
    inputs = [path for path in (scene, sar, map_file(cloud), *references) if path]
    SceneOutputs.of(output, uncertainty, options).check(inputs)
    check_rasters(scene, sar, map_file(cloud), references, align=options.align)
    named = {"bands": options.bands, "polarisations": options.polarisations}
    check_bands(scene, model, options.allow_missing, sar=sar, **named)
    from pellucid.apply.remove_clouds import check_scene, estimate, restore_scene
    from pellucid.build.method import load

    method = load(model, device=options.device)
    if dry_run:
        checked = check_scene(scene, output, **files, method=method, options=options)
        if as_json:
            print_json({"checked": checked})
        else:
            out.print(checked, soft_wrap=True)
        return
    if estimate_only:
        found = estimate(scene, output, **files, method=method, options=options)
        if as_json:
            print_json(asdict(found))
        else:
            out.print(str(found), soft_wrap=True)
        return
    with progress_bars("reading the scene", "removing clouds") as (read, advance):
        report = restore_scene(
            scene, output, **files, method=method, options=options, progress=advance, reading=read
        )
    if as_json:
        print_json(asdict(report))
        return
    share = report.num_restored / max(report.num_valid, 1)
    if report.num_rows_before:
        done = f"{report.num_rows_before} of {report.num_rows} rows of tiles"
        out.print(f"an interrupted call had finished {done}, this one the rest")
    out.print(f"{report.num_restored:,} of {report.num_valid:,} pixels restored ({share:.1%})")
    shown = {"painted": report.painted, "preview": report.preview, "page": report.page}
    print_paths(result=report.out, spread=report.uncertainty, **shown)


def _one_scene(scene: Path | None, optical: Path | None) -> Path:
    """Return the scene that is named in either way."""
    if scene and optical:
        raise InputError(f"{scene} and --optical {optical} both name the scene, leave one out")
    if found := scene or optical:
        return found
    raise InputError("no scene is given; name a file or product, or files of bands with --optical")


@takes(CloudMapOptions)
def clouds(
    scenes: Scenes, output: Maps, mask: Mask = None, *, options: CloudMapOptions, dry_run: DryMaps = False
) -> None:
    """Map cloud probability of every Sentinel-2 scene in a folder, for `remove-clouds --cloud`.

    A scene that cannot be used is listed at the end and makes the exit code 1.

    Example: `pellucid clouds scenes -o cloud_maps`
    """
    from pellucid.apply.inputs import find_scenes

    find_scenes(scenes, options.pattern)
    from pellucid.apply.map_clouds import check_clouds, map_clouds
    from pellucid.build.method import load

    method = load("ground", device="cpu") if options.scorer == "ground" else None
    if dry_run:
        report = check_clouds(scenes, output, masks=mask, options=options, method=method)
    else:
        with progress_bar("mapping clouds") as advance:
            report = map_clouds(scenes, output, masks=mask, options=options, method=method, progress=advance)
    tell(report=report)
    done = "would be mapped" if dry_run else f"mapped in {report.seconds:.1f} s"
    skipped = f", {report.num_skipped} were there already" if report.num_skipped else ""
    out.print(f"{report.num_done} scene{'s' * (report.num_done != 1)} {done}{skipped}")
    print_paths(maps=report.out if report.num_done and not dry_run else None, preview=report.sheet)
    for failed in report.failures:
        reason = failed.reason if str(failed.path) in failed.reason else f"{failed.path}: {failed.reason}"
        say("failed", reason)
    if report.failures:
        raise typer.Exit(1)


@report_errors()
def status(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the results.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Sum up what is done of many scenes, failed and open; the exit code is 1 if any failed.

    Example: `pellucid status out`
    """
    from pellucid.cli.many import print_status

    print_status(output, as_json=as_json)


@report_errors()
def simulate(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; data.csv lists its pairs.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pairs.")] = 8,
    size: Annotated[int, typer.Option(min=32, help="Side of a patch in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same pairs.")] = 0,
    clear: Annotated[
        Path | None, typer.Option(help="Folder of your own clear scenes; else landscapes are made up.")
    ] = None,
) -> None:
    """Make training pairs: clear scenes, the same under simulated clouds, radar and cloud maps.

    Example: `pellucid simulate pairs --count 100 --clear my_clear_scenes`
    """
    from pellucid.simulate.pairs import simulate_pairs

    with progress_bar("simulating") as advance:
        listing = simulate_pairs(
            output, count=count, size=size, seed=seed, clear=clear, progress=lambda done: advance(done, count)
        )
    out.print(f"pairs listed in  {listing}", soft_wrap=True)
    tell(files={"pairs": listing})


@report_errors()
def demo(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")] = Path("demo"),
    size: Annotated[int, typer.Option(min=128, help="Side of the scene in pixels.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes another scene.")] = 2027,
    model: Model = DEFAULT_MODEL,
) -> None:
    """Make a cloudy scene whose truth is known, restore it and show how well that went.

    Example: `pellucid demo`
    """
    from pellucid.cli.demo import run_demo

    with progress_bars("making a scene", "removing clouds") as (making, advance):
        result = run_demo(output, size=size, seed=seed, model=model, making=making, progress=advance)
    out.print(result.evaluation.table())
    tell(figures=result.evaluation.to_dict())
    print_paths(**result.files)
