"""Models side by side on fixed splits, with baselines, intervals over places, and what each model costs."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pellucid.apply.options import ApplyOptions, choose_sampling
from pellucid.build.method import load
from pellucid.config import load_config
from pellucid.data.batch import Images
from pellucid.data.claims import claim_folders
from pellucid.data.files import write_text
from pellucid.data.run_folder import CONFIG, find_run, shipped_runs
from pellucid.datasets._listing import Wanted
from pellucid.datasets._shelf import find_layout
from pellucid.errors import InputError, WriteError
from pellucid.evaluation.benchmark_data import Chosen, Picked, Selection, choose, read_images
from pellucid.evaluation.cost import Cost, measure_cost
from pellucid.evaluation.evaluate import Extras, Record, evaluate
from pellucid.evaluation.figures import baseline_spectrum
from pellucid.evaluation.folder import METRICS, read_metrics
from pellucid.evaluation.trial import Setup
from pellucid.methods.inference import digest_method
from pellucid.methods.method import Method

COST, KEY = "cost.json", "benchmark_key"
# Images whose pictures are kept.
NUM_PICTURES = 8
Progress = Callable[[float, int], None]


@dataclass(frozen=True)
class Entry:
    """What a benchmark knows of one model.

    Attributes:
        name: of the model.
        folder: of its evaluation; None: it could not be evaluated.
        cost: None: not measured.
        problem: why it could not be evaluated, or its cost not be measured; "" otherwise.
        trained: what is known of whether it was trained on the places that are evaluated.
    """

    name: str
    folder: Path | None = None
    cost: Cost | None = None
    problem: str = ""
    trained: str = ""


@dataclass(frozen=True)
class Plan:
    """What a benchmark is to do.

    Attributes:
        models: run folders or names of models that ship.
        selection: of the images.
        options: how the models are applied.
        threads: with which the cost is measured.
        has_cost: whether it is measured.
    """

    models: tuple[str, ...]
    selection: Selection
    options: ApplyOptions
    threads: int = 1
    has_cost: bool = True


def find_models(text: Sequence[str]) -> tuple[str, ...]:
    """Return the models of a list; "all" are those that ship and take clouds off.

    Raises:
        InputError: if one is no model, or one that does something else.
    """
    wanted = [name for each in text for name in (_shipped() if each == "all" else (each,))]
    for name in wanted:
        if name not in _shipped() and not _removes_clouds(load(name, device="cpu")):
            raise InputError(f"{name} takes no clouds off, which a benchmark is about; leave it out")
    if not wanted:
        raise InputError("no model is named; give --models all, or names of models and run folders")
    return tuple(dict.fromkeys(wanted))


def choose_images(plan: Plan) -> Chosen:
    """Return which images are evaluated; the same for every model."""
    method = load(plan.models[0], device="cpu")
    return choose(read_images(method, plan.selection), plan.selection)


def find_done(out: Path, key: str) -> Path | None:
    """Return the folder of an earlier evaluation with this key, if there is one."""
    for path in sorted(out.glob(f"*/{METRICS}")):
        with suppress(InputError):
            if read_metrics(path).get("settings", {}).get(KEY) == key:
                return path.parent
    return None


def key_of(plan: Plan, method: Method, chosen: Chosen) -> str:
    """Return a digest of all on which the figures of a model depend."""
    options = {name: value for name, value in asdict(plan.options).items() if name not in ("device",)}
    parts = (
        digest_method(method),
        repr(method.sampling),
        chosen.keys,
        chosen.groups,
        sorted(options.items()),
    )
    data = plan.selection.data
    listed = data.read_bytes() if data.is_file() else b""  # a list says which clouds are over the images
    return hashlib.sha256(repr((str(data.resolve()), listed, parts)).encode()).hexdigest()


def run_model(plan: Plan, model: str, chosen: Chosen, out: Path, progress: Progress) -> Entry:
    """Evaluate and measure a model, unless that was done before with the same weights, images and options.

    Args:
        plan: what is to be done.
        model: one of its models.
        chosen: the images.
        out: folder in which the model gets one of its own.
        progress: called with (images done, images).
    """
    name = Path(model).name
    trained = describe_training(find_run(model), chosen)
    try:
        method = choose_sampling(load(model, device=plan.options.device), plan.options)
        key = key_of(plan, method, chosen)
        images = Picked(read_images(method, plan.selection), chosen.at)
        folder = find_done(out, key) or _evaluate(plan, method, name, images, out, key, progress)
    except WriteError:  # which the next model would meet too
        raise
    except InputError as error:
        return Entry(name, problem=str(error), trained=trained)
    entry = Entry(name, folder, trained=trained)
    with claim_folders(folder):  # which also clears what a run left that was killed there
        if not plan.has_cost:
            return entry
        cost = read_cost(folder / COST)
        if cost is None:
            cost = measure_cost(model, images[0], plan.options, plan.threads)
            if cost is None:
                return replace(entry, problem="its cost could not be measured: the process was killed")
            write_text(folder / COST, json.dumps(asdict(cost), indent=1) + "\n")
    return replace(entry, cost=cost)


def _evaluate(
    plan: Plan, method: Method, name: str, images: Images, out: Path, key: str, progress: Progress
) -> Path:
    selection = plan.selection
    settings = {"model": name, "data": str(selection.data), "split": selection.split, KEY: key}
    result = evaluate(
        method,
        images,
        name=name,
        out=out,
        record=Record(settings=settings, sheet=NUM_PICTURES, pictures="sheet"),
        extras=Extras(detail=True),
        setup=Setup(ablate_guides=False),
        mean_spectrum=baseline_spectrum(method),
        samples=plan.options.samples,
        device=plan.options.device,
        precision=plan.options.precision,
        progress=progress,
    )
    assert result.folder is not None
    return result.folder


def read_cost(path: Path) -> Cost | None:
    """Return a cost that was measured before, None where none was."""
    with suppress(OSError, ValueError, TypeError):
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Cost(**values)
    return None


def describe_training(run: Path, chosen: Chosen) -> str:
    """Return how many of the images are of places that the model was trained on, as far as names show."""
    data = load_config(run / CONFIG).data
    known, num_absent = set[str](), 0
    for source in data.train:
        root = getattr(source, "root", None)
        if source.name == "synthetic":
            continue
        if root is None or not Path(root).exists():
            num_absent += 1
            continue
        with suppress(InputError):
            patches = find_layout(source.name).build(source, Wanted(("B02", "B03", "B04"), ()))
            pairs = zip(patches.keys, patches.groups, strict=True)
            known |= {name for pair in pairs if pair[1] not in data.hold_out for name in pair}
    pairs = zip(chosen.keys, chosen.groups, strict=True)
    number = sum(not known.isdisjoint({*pair, Path(pair[0]).name}) for pair in pairs)
    text = f"{number} of {len(chosen.keys)} images are of places it was trained on"
    return f"{text}; {num_absent} of its sources are not here" if num_absent else text


def _shipped() -> tuple[str, ...]:
    return tuple(name for name in shipped_runs() if _removes_clouds(load(name, device="cpu")))


def _removes_clouds(method: Method) -> bool:
    return method.task == "restore" and method.optical.kind == "sentinel2" and method.scale == 1
