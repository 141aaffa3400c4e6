"""What is installed and what the machine has, each with what is wrong and how to mend it."""

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

import pellucid
from pellucid.data.digests import check_tensors, read_digest
from pellucid.data.run_folder import SHIPPED, WEIGHTS, shipped_runs

OLDEST_PYTHON = (3, 11)
GIB = 2**30
# GiB below which a tile of the largest model that ships, or a scene's working file, may not fit.
LITTLE_MEMORY, LITTLE_DISK = 2.0, 2.0
# What each driver of GDAL reads or writes here; scenes cannot do without the first.
DRIVERS = {
    "GTiff": "scenes and results",
    "COG": "results for web maps",
    "VRT": "mosaics",
    "JP2OpenJPEG": "Sentinel-2 products",
}
# A coordinate system that PROJ knows from its database alone.
SOME_CRS = "EPSG:32633"

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: "note" is what only some commands miss."""

    name: str
    found: str
    state: State = "ok"
    mend: str = ""


def check_installation(progress: Callable[[float, int], None] | None = None) -> list[Finding]:
    """Return what was found, whatever is broken; `progress` is called with (checks done, checks)."""
    findings = list[Finding]()
    checks = (_python, _packages, _torch, _devices, _threads, _gdal, _proj, _memory, _disk, _extras, _weights)
    for done, check in enumerate(checks, start=1):
        findings += _guarded(check)
        if progress is not None:
            progress(done, len(checks))
    return findings


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings as plain values."""
    return {
        "pellucid": pellucid.__version__,
        "is_ready": not any(each.state == "wrong" for each in findings),
        "checks": [asdict(each) for each in findings],
    }


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; one that fails is a finding too."""
    name = check.__name__.strip("_")
    try:
        yield from check()
    except Exception as error:  # of libraries that are broken in ways of their own
        yield Finding(name, _one_line(error), "wrong", "install pellucid again in a fresh environment")


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    if sys.version_info < OLDEST_PYTHON:
        yield Finding("Python", found, "wrong", "install Python 3.11 or newer")
    else:
        yield Finding("Python", found)
    yield Finding("pellucid", f"{pellucid.__version__} at {Path(pellucid.__file__).parent}")


def _packages() -> Iterator[Finding]:
    """Yield whether what pellucid requires is there, in versions that it takes."""
    wanted = [each for each in _requirements() if each.marker is None]
    faults = [(each, fault) for each in wanted if (fault := _fault(each))]
    for each, fault in faults:
        yield Finding(each.name, fault, "wrong", f"pip install '{each}'")
    if not faults:
        yield Finding("packages", f"all {len(wanted)} are there, in versions that fit")


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(text) for text in requires("pellucid") or ()]
    except PackageNotFoundError:
        return []


def _fault(wanted: Requirement) -> str:
    """Return what is wrong with a package; nothing if it is as wanted."""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return "not installed"
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{found}, must be {wanted.specifier}"
    return ""


def _torch() -> Iterator[Finding]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield Finding("torch", f"{torch.__version__}, {build}")
    for name in ("diffusers", "transformers"):  # another package may break them
        try:
            importlib.import_module(name)
        except Exception as error:
            mend = f"pip install --force-reinstall {name}; if torchvision is installed, remove it"
            yield Finding(name, f"cannot be imported: {_one_line(error)}", "wrong", mend)


def _devices() -> Iterator[Finding]:
    import torch

    has_amx = torch.cpu.get_capabilities().get("amx_bf16")
    yield _compute("cpu", f"{platform.processor() or platform.machine()}{', AMX for bf16' * bool(has_amx)}")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        yield _compute(f"cuda:{index}", f"{found.name}, {found.total_memory / GIB:.0f} GiB")
    if not torch.cuda.is_available() and Path("/proc/driver/nvidia/version").exists():
        mend = "install a CUDA build of torch that fits the driver: pytorch.org/get-started"
        yield Finding("GPU", "there is one, which this torch cannot use", "note", mend)


def _compute(device: str, name: str) -> Finding:
    """Return whether a convolution on the device gives the right number."""
    import torch

    try:
        ones = torch.ones(1, 8, 16, 16, device=device)
        result = torch.nn.functional.conv2d(ones, torch.ones(1, 8, 3, 3, device=device)).mean().item()
    except RuntimeError as error:
        return Finding(
            device, f"{name}: {_one_line(error)}", "wrong", "update its driver, or use --device cpu"
        )
    if result != 72:
        return Finding(device, f"{name}, which computes {result:g} where 72 is right", "wrong", "replace it")
    return Finding(device, name)


def _threads() -> Iterator[Finding]:
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"{threads} of torch, {cores:g} usable cores"
    if threads > max(1, cores):
        mend = f"export OMP_NUM_THREADS={max(1, int(cores))}, or threads will wait for each other"
        yield Finding("threads", found, "note", mend)
    else:
        yield Finding("threads", found)


def usable_cores() -> float:
    """Return how many cores this process may use: those it is bound to, or the quota of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, int(quota) / int(period))
    return cores


def _gdal() -> Iterator[Finding]:
    import rasterio
    from rasterio.drivers import raster_driver_extensions  # noqa: F401  # a broken build fails here
    from rasterio.env import GDALVersion

    with rasterio.Env() as env:
        there = env.drivers()
    missing = [name for name in DRIVERS if name not in there]
    yield Finding(
        "GDAL",
        f"{GDALVersion.runtime()} in rasterio {rasterio.__version__}, "
        f"{', '.join(name for name in DRIVERS if name in there)}",
    )
    for name in missing:
        state: State = "wrong" if name == "GTiff" else "note"
        mend = "pip install --force-reinstall --no-deps rasterio, whose own GDAL has it"
        yield Finding(f"GDAL {name}", f"missing: {DRIVERS[name]}", state, mend)


def _proj() -> Iterator[Finding]:
    """Yield whether coordinate systems are known: another program's database often hides the right one."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    paths = [name for name in ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA") if os.environ.get(name)]
    try:
        CRS.from_string(SOME_CRS).to_wkt()
    except CRSError as error:
        mend = f"unset {' '.join(paths)}" if paths else "pip install --force-reinstall --no-deps rasterio"
        yield Finding("PROJ", f"knows no {SOME_CRS}: {_one_line(error)}", "wrong", mend)
    else:
        yield Finding("PROJ", f"knows {SOME_CRS}")


def _memory() -> Iterator[Finding]:
    """Yield the free memory, of the machine or of the container; nothing where the system does not say."""
    lines = (line.split() for line in _read("/proc/meminfo").splitlines())
    values = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) > 1}
    if "MemAvailable" not in values:
        return
    free, total = values["MemAvailable"], values["MemTotal"]
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit() and int(limit) < total:
        free, total = min(free, int(limit) - int(used)), int(limit)
    found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < LITTLE_MEMORY * GIB:
        yield Finding("memory", found, "note", "close other programs, or use --tile 256")
    else:
        yield Finding("memory", found)


def _disk() -> Iterator[Finding]:
    """Yield what is free where results and temporary files go."""
    for name, folder in (("disk", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        found = f"{free / GIB:.1f} GiB free at {folder}"
        if not os.access(folder, os.W_OK):
            yield Finding(name, f"{folder} is read-only", "note", "go to a folder that can be written")
        elif free < LITTLE_DISK * GIB:
            yield Finding(name, found, "note", "free the disk, or write results elsewhere")
        else:
            yield Finding(name, found)


def _extras() -> Iterator[Finding]:
    """Yield of each extra whether its packages are there; those of developers are left out."""
    extras: dict[str, list[Requirement]] = {}
    for each in _requirements():
        for name in _names(each):
            extras.setdefault(name, []).append(each)
    for name, wanted in extras.items():
        lacks = [f"{each.name} {_fault(each)}" for each in wanted if _fault(each)]
        if lacks:
            yield Finding(
                f"extra {name}", "; ".join(lacks), "note", f"pip install 'pellucid[{name}]' to use it"
            )
        else:
            yield Finding(f"extra {name}", ", ".join(f"{each.name} {version(each.name)}" for each in wanted))


def _names(wanted: Requirement) -> list[str]:
    """Return the extra that a requirement belongs to; none for what everybody or only developers need."""
    text = str(wanted.marker or "")
    if "extra ==" not in text or wanted.name == "pellucid":
        return []
    name = text.partition("extra ==")[2].strip().split()[0].strip("\"'()")
    return [] if name == "dev" else [name]


def _weights() -> Iterator[Finding]:
    """Yield of each model that ships whether its weights are those that were saved."""
    if not shipped_runs():
        yield Finding("models", f"{SHIPPED} holds none", "wrong", "install pellucid again")
    for name in shipped_runs():
        try:
            check_tensors(SHIPPED / name / WEIGHTS)
            digest = read_digest(SHIPPED / name / WEIGHTS)
            if digest is None:
                raise ValueError("its weights lack the SHA-256 that all that ship have")
        except (ValueError, OSError) as error:
            yield Finding(f"model {name}", _one_line(error), "wrong", "install pellucid again")
        else:
            yield Finding(f"model {name}", f"SHA-256 {digest[:8]}, which fits its weights")


def _read(path: str) -> str:
    """Return a file of the system; nothing where it is not there."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
