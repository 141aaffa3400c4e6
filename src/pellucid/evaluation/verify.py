"""Whether a model gives, on this machine, what it gave where its golden values were made."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pellucid.apply.golden_tile import tiles_for
from pellucid.apply.options import ApplyOptions
from pellucid.build.method import load
from pellucid.data.digests import check_tensors, read_digest
from pellucid.data.files import write_text
from pellucid.data.run_folder import WEIGHTS, find_run
from pellucid.data.schema import Precision
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError
from pellucid.evaluation.trial import Setup, Trial
from pellucid.methods.method import Method
from pellucid.metrics import psnr

GOLDEN = "golden.json"
# Every so many pixels of a golden tile have a golden value: no multiple of a window or stride.
STEP, FIRST = 9, 4
DIGITS = 6
REMEDY = "install pellucid again, or save the run again"


class Tolerance(NamedTuple):
    """How far values may lie from the golden ones."""

    rms: float  # of all values, in [0, 1]
    largest: float
    psnr_db: float
    reason: str


# By kind of device and precision; the reasons name what was measured with the models that ship, the worst of
# them. `test_tf32_lies_within_the_tolerance_of_gpus` measures TF32 without a GPU.
TOLERANCES: dict[tuple[str, Precision], Tolerance] = {
    ("cpu", "fp32"): Tolerance(
        *(1e-5, 1e-4, 0.01), "sums in another order: 6e-7 RMS, with and without AMX, AVX and oneDNN"
    ),
    ("cuda", "fp32"): Tolerance(
        *(3e-4, 2e-3, 0.05), "convolutions in TF32, of 10 bits: 8e-5 RMS, 3e-4 at most, as computed on a CPU"
    ),
    ("cpu", "bf16"): Tolerance(*(1e-2, 6e-2, 0.3), "7 bits: 3e-3 RMS"),
    ("cuda", "bf16"): Tolerance(*(1e-2, 6e-2, 0.3), "7 bits, as on CPUs"),
}


@dataclass(frozen=True)
class Verdict:
    """What one check found."""

    model: str
    check: str  # "weights", "golden tiles" or "figures"
    where: str  # device and precision, where they matter
    found: str
    is_passed: bool


def verify(
    model: str, *, devices: Sequence[str], progress: Callable[[float, int], None] | None = None
) -> list[Verdict]:
    """Return the verdicts on a model that ships, or on a run with golden values.

    Where the weights are damaged, nothing else is looked at. `progress` is called with (trials done, trials).
    """
    folder = find_run(model)
    verdict, digest = _check_weights(folder)
    pairs: list[tuple[str, Precision]] = list(product(devices, ("fp32", "bf16")))
    verdicts = [verdict]
    if not verdict.is_passed:
        return verdicts
    golden = _read_golden(folder)
    if golden is None or golden["sha256"] != digest:
        about = "are missing" if golden is None else "are of other weights"
        text = f"golden values {about}; if the weights are right, pellucid verify {model} --renew"
        return [*verdicts, Verdict(folder.name, "golden tiles", "", text, False)]
    for done, (device, precision) in enumerate(pairs, start=1):
        verdicts += _compare(folder, golden, device, precision)
        if progress is not None:
            progress(done, len(pairs))
    return verdicts


def renew(model: str) -> Path:
    """Make the golden values of a model anew, on the CPU in fp32, and return their file."""
    folder = find_run(model)
    verdict, digest = _check_weights(folder)
    if not verdict.is_passed:
        raise InputError(f"{folder / WEIGHTS}: {verdict.found}")
    found = _apply(load(folder, device="cpu"), "cpu", "fp32")
    if found is None:
        raise InputError(f"{folder.name} makes no images of which there are golden tiles; nothing to renew")
    golden = {"sha256": digest, "made_with": f"torch {torch.__version__}, CPU, fp32", **found}
    write_text(folder / GOLDEN, json.dumps(golden) + "\n")
    return folder / GOLDEN


def devices_here(name: str) -> list[str]:
    """Return the devices to verify on; "auto" is the CPU and, where there is one, the GPU."""
    if name != "auto":
        return [name]
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def _check_weights(folder: Path) -> tuple[Verdict, str | None]:
    path = folder / WEIGHTS
    digest = read_digest(path)
    try:
        check_tensors(path)
    except ValueError as error:
        return Verdict(folder.name, "weights", "", f"{error}; {REMEDY}", False), digest
    if digest is None:
        return Verdict(folder.name, "weights", "", f"they have no SHA-256; {REMEDY}", False), None
    return Verdict(folder.name, "weights", "", f"SHA-256 {digest[:8]} fits", True), digest


def _read_golden(folder: Path) -> dict[str, Any] | None:
    path = folder / GOLDEN
    if not path.is_file():
        return None
    try:
        golden = parse_json(path.read_text(encoding="utf-8"))
        return {key: golden[key] for key in ("sha256", "values", "psnr_db", "input_psnr_db")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it anew with --renew") from error


def _compare(folder: Path, golden: dict[str, Any], device: str, precision: Precision) -> list[Verdict]:
    """Return the verdicts on the golden tiles and on the figures of a device and precision."""
    found = _apply(load(folder, device=device), device, precision)
    where = f"{device} {precision}"
    limit = TOLERANCES["cuda" if device.startswith("cuda") else "cpu", precision]
    if found is None or [len(x) for x in found["values"].values()] != [
        len(x) for x in golden["values"].values()
    ]:
        return [
            Verdict(folder.name, "golden tiles", where, "are not those of this model; see --renew", False)
        ]
    pairs = zip(found["values"].values(), golden["values"].values(), strict=True)
    apart = torch.cat([torch.tensor(a) - torch.tensor(b) for a, b in pairs])
    rms, largest = apart.square().mean().sqrt().item(), apart.abs().max().item()
    text = f"off by {rms:.1e} RMS (at most {limit.rms:.0e}), {largest:.1e} at most ({limit.largest:.0e})"
    is_near = rms <= limit.rms and largest <= limit.largest  # False where anything is NaN
    text += "" if is_near else f"; expected are {limit.reason}"
    figure, wanted, plain = (
        _mean(x["psnr_db"]) for x in (found, golden, {"psnr_db": golden["input_psnr_db"]})
    )
    figures = f"PSNR {figure:.2f} dB (golden {wanted:.2f} ± {limit.psnr_db:g}, input {plain:.2f})"
    is_as_good = abs(figure - wanted) <= limit.psnr_db
    return [
        Verdict(folder.name, "golden tiles", where, text, is_near),
        Verdict(folder.name, "figures", where, figures, is_as_good),
    ]


def _apply(method: Method, device: str, precision: Precision) -> dict[str, Any] | None:
    """Return golden values and figures of a method on the golden tiles; None where none are for it."""
    tiles = tiles_for(method)
    if not tiles:
        return None
    trial = Trial(method, ApplyOptions(device=device, precision=precision), Setup(ablate_guides=False))
    results = [trial.restore(tile) for tile in tiles]
    values: dict[str, list[float]] = {}
    for name in ("image", "deviation"):
        images = [image for each in results if (image := getattr(each.estimate, name)) is not None]
        if images:
            values[name] = [value for image in images for value in _sample(image)]
    return {
        "values": values,
        "psnr_db": [
            _psnr(each.estimate.image, tile.reference()) for each, tile in zip(results, tiles, strict=True)
        ],
        "input_psnr_db": [_psnr(tile.enlarged(), tile.reference()) for tile in tiles],
    }


def _sample(image: Tensor) -> list[float]:
    picked = image[..., FIRST::STEP, FIRST::STEP].float().flatten()
    return [round(value, DIGITS) for value in picked.tolist()]


def _psnr(image: Tensor, target: Tensor) -> float:
    """Return the PSNR in dB; of an image that is its own target, as an autoencoder's input is, 100 dB."""
    return min(psnr(image.float(), target).item(), 100.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
