"""Many scenes: a process, or a task of a Dask cluster, for each; what was done of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import typer

from pellucid.apply.inputs import check_scene_model
from pellucid.apply.memory import available_bytes, keep_freed_memory, make_way
from pellucid.apply.options import SceneOptions
from pellucid.apply.outputs import can_go_on
from pellucid.apply.scene_list import SceneJob, choose_part, is_many, list_scenes
from pellucid.apply.scene_records import Records, read_records
from pellucid.apply.workers import run_jobs
from pellucid.cli.terminal import out as console
from pellucid.cli.terminal import print_json, progress_bar, say
from pellucid.data.files import make_folder
from pellucid.data.geotiff import Raster
from pellucid.errors import InputError, WriteError, counted, explain_memory, is_out_of_memory, refusal

__all__ = ["Many", "is_many", "print_status", "restore_many", "restore_one"]

# Bytes that a process needs for a scene of any size.
NEEDED = 2.5e9
UNEXPECTED = "an unexpected error, please report it"


@dataclass(frozen=True)
class Many:
    """How many scenes are restored."""

    scenes: Path
    out: Path
    model: str
    options: SceneOptions
    sar_dir: Path | None = None
    reference_dir: Path | None = None
    cloud: Path | None = None  # auto or product
    part: str | None = None
    workers: int | None = None
    scheduler: str | None = None
    shared_context: bool = False
    dry_run: bool = False
    estimate: bool = False
    as_json: bool = False


def restore_many(many: Many) -> None:
    """Restore scene after scene, leaving out those that are done; exit with 1 if any failed."""
    has_dates = many.reference_dir is not None
    named = many.options.bands is not None
    check_scene_model(many.model, references=has_dates, bands=named, shared=many.shared_context)
    jobs = list_scenes(many.scenes, many.out, sar_dir=many.sar_dir, reference_dir=many.reference_dir)
    if many.out.suffix.lower() in (".tif", ".tiff") or many.out.is_file():
        raise InputError(f"{many.out} is to hold the results of many scenes; name a folder")
    if many.cloud:
        jobs = [replace(job, cloud=job.cloud or many.cloud) for job in jobs]
    if many.shared_context:
        from pellucid.apply.shared_context import share_context

        jobs = share_context(jobs, many.out)
    chosen = choose_part(jobs, many.part)
    records = Records(many.out, many.model, many.options)
    if many.dry_run:
        _check(many, records, chosen)
        return
    if many.estimate:
        _estimate(many, [job for job in chosen if not (many.options.resume and records.is_done(job))])
        return
    if many.scheduler:
        from pellucid.cli.cluster import check_scheduler

        check_scheduler(many.scheduler)
    make_folder(many.out)
    records.write_list(jobs)
    pending = [job for job in chosen if not (many.options.resume and records.is_done(job))]
    with can_go_on():
        looked = _run_all(many, records, _to_look_at(pending, jobs), "reading scenes", collect_one)
        failed: dict[Path, str | None]
        failed = {job.scene: reason for job in pending if (reason := looked.get(job.scene))}
        pending = [job for job in pending if job.scene not in failed]
        done = _run_all(many, records, pending, "removing clouds", restore_one)
    _report(many, chosen, failed | done, {job.scene: records.left_out(job) for job in chosen})


def _to_look_at(pending: Sequence[SceneJob], jobs: Sequence[SceneJob]) -> list[SceneJob]:
    """Return the scenes whose sums are needed: those to be restored, then the others of their days."""
    needed = {path for job in pending for path in job.context}
    others = (job for job in jobs if job not in pending and needed.intersection(job.context[:1]))
    return [job for job in (*pending, *others) if job.context]


def _run_all(
    many: Many, records: Records, jobs: Sequence[SceneJob], title: str, work: Callable[..., str | None]
) -> dict[Path, str | None]:
    """Do the work on each scene; return why it failed, which is noted, or None."""
    reasons: dict[Path, str | None] = {}
    if not jobs:
        return reasons
    with progress_bar(title) as advance:
        advance(0, len(jobs))
        for i, reason in _run(many, jobs, work):
            reasons[jobs[i].scene] = reason
            if reason:
                records.note(jobs[i], "failed", reason=reason)
            advance(len(reasons), len(jobs))
    return reasons


def restore_one(
    job: SceneJob, *, model: str, options: SceneOptions, threads: int = 0, out: Path
) -> str | None:
    """Restore one scene in a process of its own and note that it is done; return None, or why it failed.

    Raises:
        WriteError: if no other result could be written either.
    """
    return _try(lambda: _restore(job, Records(out, model, options), model, options), job, threads)


def collect_one(
    job: SceneJob, *, model: str, options: SceneOptions, threads: int = 0, out: Path
) -> str | None:
    """Save what a scene says about its ground, for all of its day; return None, or why that failed."""

    def collect() -> None:
        from pellucid.apply.remove_clouds import look_at_scene

        make_folder(out)
        given = {**_guides(job), "method": _load(model, options.device), "options": options}
        look_at_scene(job.scene, job.out, **given, context=job.context)

    return _try(collect, job, threads)


def _try(work: Callable[[], None], job: SceneJob, threads: int) -> str | None:
    """Do the work of a process on a scene with so many threads; return None, or why it failed."""
    import torch

    if job.problem:
        return job.problem
    if threads:
        torch.set_num_threads(threads)
    try:
        work()
    except WriteError:
        raise
    except InputError as error:
        return str(error)
    except Exception as error:  # a fault of ours in one scene is no reason to give up the others
        if is_out_of_memory(error):
            return explain_memory(error, f"try fewer --workers, or {make_way()}")
        refused = refusal(error) if isinstance(error, OSError) else None
        if isinstance(refused, WriteError):
            raise refused from error
        return str(refused or f"{UNEXPECTED}: {type(error).__name__}: {error}")
    return None


def _restore(job: SceneJob, records: Records, model: str, options: SceneOptions) -> None:
    from pellucid.apply.remove_clouds import restore_scene

    records.note(job, "started")
    method = _load(model, options.device)
    given = {**_guides(job), "method": method, "options": options, "context": job.context}
    report = restore_scene(job.scene, job.out, **given)
    share = report.num_restored / max(report.num_valid, 1)
    about: dict[str, Any] = {"seconds": round(report.seconds, 1), "restored": round(share, 4)}
    records.note(job, "done", **about, left_out=list(map(str, report.left_out)))


def _guides(job: SceneJob) -> dict[str, Any]:
    """Return what guides a scene of many, which is restored without dates that cannot."""
    return {**job.guides, "dates_must_guide": False}


@lru_cache(maxsize=1)
def _load(model: str, device: str) -> Any:
    """Return the method, which a process loads once."""
    from pellucid.build.method import load

    keep_freed_memory()
    return load(model, device=device)


def _run(
    many: Many, jobs: Sequence[SceneJob], work: Callable[..., str | None]
) -> Iterator[tuple[int, str | None]]:
    """Yield the number of each job, as they end, and why it failed, or None."""
    work = partial(work, model=many.model, options=many.options, out=many.out)
    if many.scheduler:
        from pellucid.cli.cluster import run_on_cluster

        return run_on_cluster(work, jobs, scheduler=many.scheduler)
    workers = _processes(many, len(jobs))
    # What the user sets for a batch job holds; bits of a result may depend on the number of threads.
    threads = 0 if "OMP_NUM_THREADS" in os.environ else max(1, _cores() // workers)
    return run_jobs(partial(work, threads=threads), jobs, workers=workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processes(many: Many, count: int) -> int:
    """Return how many processes restore so many scenes: as the user says, or as cores and memory allow."""
    fit = max(1, int(available_bytes() // NEEDED))
    return many.workers or max(1, min(_cores(), fit, count))


def _estimate(many: Many, jobs: Sequence[SceneJob]) -> None:
    """Say what the scenes take on this machine: the largest is tried out, the others by their pixels."""
    from pellucid.apply.remove_clouds import estimate

    sizes = dict[int, int]()
    with progress_bar("looking at scenes") as advance:
        for i, job in enumerate(jobs):
            sizes |= {i: pixels} if (pixels := _count_pixels(job)) else {}
            advance(i + 1, len(jobs))
    if not sizes:
        raise InputError("no scene is left that can be restored; --dry-run says why, scene by scene")
    largest = max(sizes, key=lambda i: sizes[i])
    job, method = jobs[largest], _load(many.model, many.options.device)
    one = estimate(job.scene, job.out, **_guides(job), method=method, options=many.options)
    processes = _processes(many, len(sizes))
    total = one.of_many([pixels / sizes[largest] for pixels in sizes.values()], processes)
    if many.as_json:
        print_json(asdict(total) | {"scenes": len(sizes), "processes": processes})
        return
    plural = "es" * (processes > 1)
    console.print(f"{counted(len(sizes), 'scene')} in {processes} process{plural}: {total}", soft_wrap=True)
    if faults := len(jobs) - len(sizes):
        console.print(f"{counted(faults, 'scene')} cannot be restored; --dry-run says why", soft_wrap=True)


def _count_pixels(job: SceneJob) -> int:
    """Return the values of all bands of a scene; 0 if it cannot be opened."""
    try:
        with Raster(job.scene, "optical scene") as raster:
            return 0 if job.problem else raster.grid.width * raster.grid.height * raster.dataset.count
    except InputError:
        return 0


def _check(many: Many, records: Records, jobs: Sequence[SceneJob]) -> None:
    """Open every scene and say what would be done of it, with which files, or its fault: then exit with 1."""
    plans = list[dict[str, Any]]()
    with progress_bar("checking scenes") as advance:
        for i, job in enumerate(jobs):
            is_done = many.options.resume and records.is_done(job)
            said, problem = ("is done already", None) if is_done else _plan(many, job)
            plans.append(asdict(job) | {"plan": said, "problem": problem})
            advance(i + 1, len(jobs))
    faults = sum(plan["problem"] is not None for plan in plans)
    if many.as_json:
        print_json(plans)
    for job, plan in zip(jobs, plans, strict=True) if not many.as_json else ():
        files = [f"radar {job.sar}"] if job.sar else []
        files += [f"other date {path}" for path in job.references]
        files += [f"{len(job.context) - 1} more of its day"] if job.context else []
        if problem := plan["problem"]:
            say("failed", problem if str(job.scene) in problem else f"{job.scene}: {problem}")
        else:
            console.print("; ".join([f"{job.scene}: {plan['plan']}", *files]), soft_wrap=True)
    if faults:
        raise typer.Exit(1)


def _plan(many: Many, job: SceneJob) -> tuple[str | None, str | None]:
    """Return what would be done of a scene, and why it cannot."""
    from pellucid.apply.remove_clouds import check_scene

    if job.problem:
        return None, job.problem
    try:
        method = _load(many.model, many.options.device)
        said = check_scene(job.scene, job.out, **_guides(job), method=method, options=many.options)
        return said.removeprefix(f"{job.scene}: "), None
    except InputError as error:
        return None, str(error)


def _report(
    many: Many, jobs: Sequence[SceneJob], reasons: dict[Path, str | None], left_out: dict[Path, list[str]]
) -> None:
    """Print what was done of the scenes; exit with 1 if any failed."""
    failed = {scene: reason for scene, reason in reasons.items() if reason}
    counts = {"done": len(reasons) - len(failed), "failed": len(failed), "skipped": len(jobs) - len(reasons)}
    if many.as_json:
        scenes: list[dict[str, Any]] = [
            {"scene": job.scene, "out": job.out, "reason": failed.get(job.scene)}
            | {"state": "failed" if job.scene in failed else "done", "left_out": left_out[job.scene]}
            for job in jobs
        ]
        print_json(counts | {"scenes": scenes})
    else:
        skipped = f", {counts['skipped']} were done already" if counts["skipped"] else ""
        without = _say_without(list(left_out.values()))
        console.print(f"{counts['done']} of {len(jobs)} scenes restored{skipped}{without}", soft_wrap=True)
        for scene, reason in failed.items():
            say("failed", reason if str(scene) in str(reason) else f"{scene}: {reason}")
    if failed:
        raise typer.Exit(1)


def _say_without(left_out: Sequence[Sequence[str]]) -> str:
    """Return, for a sentence, of how many scenes other dates were left out."""
    count = sum(map(bool, left_out))
    return f", {count} without other dates that cannot guide them" if count else ""


def print_status(output: Path, *, as_json: bool) -> None:
    """Print how many scenes are done, failed, started and open; exit with 1 if any failed."""
    records = read_records(output)
    counts = Counter[str](record.state for record in records)
    states = {state: counts[state] for state in ("done", "failed", "started", "open")}
    if as_json:
        print_json(states | {"scenes": [asdict(record) for record in records]})
    else:
        without = _say_without([record.left_out for record in records])
        console.print(", ".join(f"{count} {state}" for state, count in states.items()) + without)
        for record in records:
            if record.state == "failed":
                say("failed", f"{record.scene}: {record.reason}")
    if counts["failed"]:
        raise typer.Exit(1)
