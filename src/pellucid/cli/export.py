"""The command that writes a model for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.terminal import out, print_paths, progress_bar, report_errors, tell
from pellucid.data.run_folder import find_run


@report_errors()
def export_command(
    model: Annotated[str, typer.Argument(metavar="RUN|NAME", help="A run folder or a model that ships.")],
    output: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Where it goes; nothing is replaced.")],
    deepness: Annotated[
        bool, typer.Option("--deepness", help="Also a preview of 8 bit for QGIS's plugin Deepness.")
    ] = False,
) -> None:
    """Write a model as ONNX, for programs without PyTorch, with a STAC item that describes it.

    It takes images of any size, and is compared with PyTorch before it counts. Regressions and models that
    are sampled in one step can be exported; ground, which solves for whole scenes, cannot.

    Example: `pellucid export cross_attention model.onnx`
    """
    find_run(model)
    from pellucid.build.onnx_file import export

    with progress_bar("exporting") as advance:
        done = export(model, output, deepness=deepness, progress=advance)
    tell(difference=done.difference)
    out.print(f"agrees with PyTorch to {done.difference:.0e}")
    print_paths(stac=done.stac, deepness=done.deepness, model=done.model)
    out.print(
        f"next     onnxruntime.InferenceSession({str(done.model)!r}); {done.stac.name} says what goes in",
        soft_wrap=True,
    )
