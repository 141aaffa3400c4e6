"""Failures that are provoked, and how many are survived: rows of the table in docs/failures.md.

    python -m benchmarks.failures KIND [--tries 20] [--seed 0] [--commands upscale]

Kinds:
`kills`: killed at two random moments and run again: every file is as in a run that nobody killed.
`pairs`: started twice on one output: refused, or done after the first, and every file is right.
`disk`: on a disk of a random size: one sentence; with more room, every file is right. Needs Linux.
`flips`: one bit of weights, checkpoints or working files changed: refused, or every file is right.
`files`: an input that is cut, edited, empty, a pipe, a device and so on: one sentence, or done.
`memory`: of which a process may take little or enough (`ulimit -v`): one sentence, or done. Needs Linux.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.jobs import (
    JOBS,
    Job,
    is_refusal,
    kill,
    leaves_processes,
    lists_failures,
    make_inputs,
    pellucid,
    run_to_end,
    start,
    wait,
)
from benchmarks.limits import memory
from pellucid.data.run_folder import find_run

KILLS_PER_TRY = 2
MB = 1 << 20
# What stands in place of an input, beside its own content cut or edited.
HOSTILE = ("cut", "edited", "empty", "noise", "text", "web page", "folder", "pipe", "device", "loop")


@dataclass
class Bench:
    """The inputs, what commands make of them when nothing goes wrong, and the random numbers."""

    folder: Path
    rng: np.random.Generator
    num_tries: int
    num_made: int = 0
    expected: dict[str, dict[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def inputs(self) -> Path:
        """Return where the inputs lie."""
        return self.folder / "inputs"

    @property
    def log(self) -> Path:
        """Return where a command prints."""
        return self.folder / "log.txt"

    def try_folder(self) -> Path:
        """Return a new, empty folder."""
        self.num_made += 1
        folder = self.folder / f"try{self.num_made}"
        folder.mkdir()
        return folder

    def run(self, job: Job, folder: Path) -> int:
        """Run a command to its end; return its exit code."""
        return run_to_end(job.arguments(self.inputs, folder), folder, self.log)

    def start(self, job: Job, folder: Path, log: Path | None = None) -> int:
        """Start a command; return the number of its process."""
        return start(pellucid(job.arguments(self.inputs, folder)), folder, log or self.log)

    def learn(self, name: str) -> None:
        """Run a command without failures, to know what it makes and how long it takes."""
        for words in JOBS[name].needs:
            run_to_end(words.split(), self.inputs, self.log)
        folder, begun = self.try_folder(), time.monotonic()
        if code := self.run(JOBS[name], folder):
            raise SystemExit(f"{name} ends with {code}: {self.log.read_text(encoding='utf-8')}")
        self.seconds[name] = time.monotonic() - begun
        self.expected[name] = JOBS[name].made(folder)

    def check(self, name: str, folder: Path) -> str:
        """Return "equal", or what differs from a run without failures; remove the folder if it is equal."""
        found, expected = JOBS[name].made(folder), self.expected[name]
        if found == expected:
            shutil.rmtree(folder)
            return "equal"
        differing = [path for path in sorted({*found, *expected}) if found.get(path) != expected.get(path)]
        return f"DIFFERS in {folder}: {', '.join(differing[:4])}"


def kills(bench: Bench, name: str) -> Iterator[str]:
    """Kill a command at random moments, then let it end."""
    for _ in range(bench.num_tries):
        folder, left = bench.try_folder(), False
        for delay in bench.rng.uniform(0, bench.seconds[name], KILLS_PER_TRY):
            child = bench.start(JOBS[name], folder)
            if wait(child, float(delay)) is None:
                kill(child)
            left |= leaves_processes(child)
        code = bench.run(JOBS[name], folder)
        is_done = code == 0 or is_refusal(code, bench.log)  # it had ended before, and is not made again
        yield "PROCESSES LEFT" if left else bench.check(name, folder) if is_done else _failure(bench, code)


def pairs(bench: Bench, name: str) -> Iterator[str]:
    """Start a command twice, up to half its time apart."""
    for _ in range(bench.num_tries):
        folder, logs = bench.try_folder(), [bench.folder / "first.txt", bench.folder / "second.txt"]
        first = bench.start(JOBS[name], folder, logs[0])
        code = wait(first, float(bench.rng.uniform(0, bench.seconds[name] / 2)))
        second = bench.start(JOBS[name], folder, logs[1])
        codes = [wait(first) if code is None else code, wait(second)]
        done = codes.count(0)
        refused = sum(is_refusal(code or 0, log) for code, log in zip(codes, logs, strict=True))
        if done == 0 or done + refused < 2:
            yield f"CODES {codes} in {folder}"
            continue
        found = bench.check(name, folder)
        yield found if found != "equal" else "one refused" if refused else "one after the other"


def disk(bench: Bench, name: str) -> Iterator[str]:
    """Run a command on a disk that is too small, and again when it is not."""
    place = bench.folder / "disk"
    place.mkdir(exist_ok=True)
    for _ in range(bench.num_tries):
        size = int(bench.rng.uniform(0.05, 1) * _needed(bench, name))
        _mount(place, "size", size)
        code = bench.run(JOBS[name], place)
        sentence = is_refusal(code, bench.log) or lists_failures(code, bench.log)
        if not sentence and code != 0:
            yield _failure(bench, code)
        else:
            _mount(place, "remount,size", 64 * MB)
            again = bench.run(JOBS[name], place) if sentence else 0
            copy = bench.try_folder()
            shutil.copytree(place, copy, dirs_exist_ok=True)
            found = bench.check(name, copy) if again == 0 else _failure(bench, again)
            yield found if found != "equal" else "refused, then equal" if sentence else "fitted, equal"
        subprocess.run(["umount", place], check=True)


def _needed(bench: Bench, name: str) -> int:
    """Return about how many bytes a command writes, with its working files."""
    folder = bench.try_folder()
    bench.run(JOBS[name], folder)
    num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return 2 * num_bytes


def _mount(place: Path, option: str, size: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{option}={size}", "tmpfs", place], check=True)


def flips(bench: Bench, name: str) -> Iterator[str]:
    """Change a bit of what a command goes on from, or reads its model from."""
    state = _interrupted(bench, name) if name in ("remove-clouds", "train") else None
    for _ in range(bench.num_tries):
        folder = bench.try_folder()
        if state is None:  # the weights of a model, which are copied to be damaged
            run, command = bench.inputs / "run", JOBS[name].command
            shutil.copytree(find_run(SHIPPED[name]) if name in SHIPPED else run, folder / "run")
            flip(folder / "run" / "weights.safetensors", bench.rng)
            command = f"{command} --model run" if name in SHIPPED else command.replace("{inputs}/run", "run")
            code = run_to_end(command.format(inputs=bench.inputs).split(), folder, bench.log)
            yield "refused" if is_refusal(code, bench.log) else f"READ, {code}"
            continue
        shutil.copytree(state, folder, dirs_exist_ok=True)
        names = (".out.tif.partial*",) if name == "remove-clouds" else ("last.ckpt",)
        files = sorted(path for pattern in names for path in folder.rglob(pattern))
        flip(files[bench.rng.integers(len(files))], bench.rng)
        code = bench.run(JOBS[name], folder)
        yield bench.check(name, folder) if code == 0 else _failure(bench, code)


def _interrupted(bench: Bench, name: str) -> Path:
    """Return a folder with what a killed command leaves after half its work."""
    note, enough = (".out.tif.partial.npz", 1) if name == "remove-clouds" else ("previous.ckpt", 1)
    for share in np.linspace(0.4, 1, 30):
        folder = bench.try_folder()
        child = bench.start(JOBS[name], folder)
        if wait(child, float(share * bench.seconds[name])) is None:
            kill(child)
            if len(list(folder.rglob(note))) >= enough:
                return folder
        shutil.rmtree(folder)
    raise SystemExit(f"{name} could not be killed after half its work")


def flip(path: Path, rng: np.random.Generator) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def files(bench: Bench, name: str) -> Iterator[str]:
    """Put something else in place of an input."""
    if not JOBS[name].source:
        return
    source = bench.inputs / JOBS[name].source
    whole = source.read_bytes()
    try:
        for number in range(bench.num_tries):
            kind, folder = HOSTILE[number % len(HOSTILE)], bench.try_folder()
            _remove(source)
            put(source, kind, whole, bench.rng)
            yield _judge(bench, bench.run(JOBS[name], folder), folder, kind)
    finally:
        _remove(source)
        source.write_bytes(whole)


def put(path: Path, kind: str, whole: bytes, rng: np.random.Generator) -> None:
    """Write a file of one of the `HOSTILE` kinds; `whole` is what a good one holds."""
    at = int(rng.integers(len(whole)))
    contents = {
        "cut": whole[:at],
        "edited": whole[:at] + rng.bytes(4) + whole[at + 4 :],
        "empty": b"",
        "noise": rng.bytes(5000),
        "text": b"a,b\n1,2\n" * 100,
        "web page": b"<!DOCTYPE html><html><body>404</body></html>",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _judge(bench: Bench, code: int, folder: Path, kind: str) -> str:
    """Return how a command took a bad file: refused with nothing left, left out of a folder, or read."""
    if code == 2 and is_refusal(code, bench.log):
        return f"LEFT {kind} in {folder}" if any(folder.iterdir()) else "refused"
    if lists_failures(code, bench.log):
        return "listed as failed"
    return "read or left out" if code == 0 else f"{kind}: {_failure(bench, code)}"


def _failure(bench: Bench, code: int) -> str:
    last = bench.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return f"CODE {code}: {''.join(last)[:300]}"


KINDS: dict[str, Callable[[Bench, str], Iterator[str]]] = {
    "kills": kills,
    "pairs": pairs,
    "disk": disk,
    "flips": flips,
    "files": files,
    "memory": memory,
}
# Commands that a kind is about, if not all: bits are flipped in what one goes on from, or in its model.
ABOUT = {"flips": ("remove-clouds", "train", "evaluate", "upscale", "colorize")}
# Which of the models that ship a command uses by itself.
SHIPPED = {"upscale": "sr3_ct_x4", "colorize": "sar_color"}


def main() -> None:
    """Provoke failures, print what came of them, and end with code 1 if one was not survived."""
    options = _parse()
    if options.kind == "disk" and not options.inside:
        words = ["unshare", "-rm", sys.executable, "-m", "benchmarks.failures", *sys.argv[1:], "--inside"]
        os.execvp(words[0], words)
    is_bad = False
    with tempfile.TemporaryDirectory(prefix="failures", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder).resolve(), np.random.default_rng(options.seed), options.tries)
        make_inputs(bench.inputs)
        for name in options.commands or ABOUT.get(options.kind, JOBS):
            bench.learn(name)
            outcomes = Counter(
                track(
                    KINDS[options.kind](bench, name), f"{options.kind}: {name}", options.tries, transient=True
                )
            )
            is_bad |= any(text[0].isupper() or ": CODE" in text for text in outcomes)
            found = "; ".join(f"{count} {text}" for text, count in outcomes.most_common())
            print(f"| {options.kind} | {name} | {outcomes.total()} | {found} |", flush=True)
    sys.exit(is_bad)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--tries", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="other ones give other failures")
    parser.add_argument("--commands", nargs="+", choices=JOBS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
