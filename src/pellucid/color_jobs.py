"""Which pictures are colorized, by which prompts, and where they go: one, a folder's, a dataset's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.data.geotiff import check_writable
from pellucid.data.output_folder import check_folder
from pellucid.data.radar_picture import check_picture_output, find_pictures
from pellucid.data.sar_optical import LISTS, SarOptical
from pellucid.data.slice_file import TIFF
from pellucid.data_config import SarOpticalSource
from pellucid.errors import InputError
from pellucid.pictures import spread
from pellucid.prompts import Wish

# The overview of a folder's results, in it.
SHEET = "sheet.png"
# Why results go to a folder.
SEVERAL = "several pictures are to be made"
# Pairs of a dataset, if not said otherwise.
NUM_SAMPLES = 10


@dataclass(frozen=True)
class ColorJob:
    """One picture to be made.

    Attributes:
        source: the radar.
        out: the picture in colour.
        prompt: what is to be seen.
        label: the prompt, in short, for a sheet.
        name: the place, for a sheet.
        guess: picture in colour that sampling may start from.
        truth: picture in colour to compare with.
    """

    source: Path
    out: Path
    prompt: str
    label: str = "result"
    name: str = ""
    guess: Path | None = None
    truth: Path | None = None


def plan(
    source: Path,
    out: Path,
    *,
    wishes: Sequence[Wish],
    guess: Path | None = None,
    own_prompts: str = "",
    num_samples: int | None = None,
    folders: tuple[str, ...] = (),
) -> list[ColorJob]:
    """Return what is to be made of a picture, the pictures of a folder, or the pairs of a dataset.

    Args:
        source: one of these.
        out: a picture, or, for all but one picture with one prompt, a folder.
        wishes: prompts; a dataset follows one at most.
        guess: picture in colour that one picture starts from.
        own_prompts: template of a dataset's own prompts, which they follow instead; "" for none.
        num_samples: pairs of a dataset, at most; None: `NUM_SAMPLES`.
        folders: region folders of a dataset.

    Raises:
        InputError: if these contradict each other, a file cannot be read or the result not be written.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist; name a radar picture, a folder of such, or a dataset")
    is_single = not source.is_dir() and len(wishes) == 1
    if guess and not is_single:
        raise InputError("--guess is for one picture and one prompt; leave it out, or name one picture")
    if is_dataset(source):
        if len(wishes) > 1:
            raise InputError(
                f"{source} is a dataset, whose pairs are each made once; name one region and season, or none"
            )
        return plan_dataset(
            source,
            out,
            template=own_prompts,
            num_samples=num_samples or NUM_SAMPLES,
            folders=folders,
            wish=None if own_prompts else wishes[0],
        )
    if num_samples or folders:
        option = "--num-samples" if num_samples else "--folders"
        raise InputError(f"{option} is for datasets, and {source} holds no {LISTS}; leave it out")
    return plan_file(source, out, wishes[0], guess) if is_single else plan_grid(source, out, wishes)


def plan_file(source: Path, out: Path, wish: Wish, guess: Path | None = None) -> list[ColorJob]:
    """Return the job of one picture.

    Raises:
        InputError: if `out` cannot be written, or is an input.
    """
    check_picture_output(out)
    check_writable(out)
    for path in (source, guess):
        if path and path.exists() and out.exists() and out.samefile(path):
            raise InputError(f"cannot write {out}: it is an input; name another file")
    return [ColorJob(source, out, wish.prompt, name=source.name, guess=guess)]


def plan_grid(source: Path, out: Path, wishes: Sequence[Wish]) -> list[ColorJob]:
    """Return the jobs of a picture, or of all in a folder, each with every prompt, in the folder `out`.

    A result is called like its source and the words: `a_tropical_summer.png`; that of a TIFF is one.

    Raises:
        InputError: if there is no picture, the folder cannot be made, or two results would be one.
    """
    files = find_pictures(source) if source.is_dir() else [source]
    check_folder(out, source if source.is_dir() else source.parent, reason=SEVERAL)
    jobs = [
        ColorJob(
            path,
            out / f"{'_'.join((path.stem, *wish.words))}{'.tif' if path.suffix.lower() in TIFF else '.png'}",
            wish.prompt,
            ", ".join(wish.words) or "result",
            path.name,
        )
        for path in files
        for wish in wishes
    ]
    _refuse_twins(jobs)
    return jobs


def plan_dataset(
    root: Path,
    out: Path,
    *,
    template: str,
    num_samples: int,
    folders: tuple[str, ...] = (),
    wish: Wish | None = None,
) -> list[ColorJob]:
    """Return the jobs of pairs that are spread evenly over a dataset, each with its own prompt.

    Args:
        root: of the dataset; see `SarOptical`.
        out: folder of the results.
        template: of the prompts.
        num_samples: pairs, at most.
        folders: region folders to choose from; none: all.
        wish: a prompt in place of all their own.

    Raises:
        InputError: if the dataset cannot be read, or the folder not be made.
    """
    data = SarOptical(SarOpticalSource(name="sar_optical", root=root, prompt=template, folders=folders))
    check_folder(out, root, reason=SEVERAL)
    jobs = []
    for at in spread(num_samples, len(data)):
        pair, prompt = data.pairs[at], wish.prompt if wish else data.prompts[at]
        file = out / f"{pair.group}_{Path(pair.key).name}.png"
        jobs.append(ColorJob(pair.sar, file, prompt, name=f"{pair.key}: {prompt}", truth=pair.optical))
    _refuse_twins(jobs)
    return jobs


def is_dataset(source: Path) -> bool:
    """Whether a folder holds lists of pairs."""
    return source.is_dir() and any(source.glob(LISTS))


def _refuse_twins(jobs: Sequence[ColorJob]) -> None:
    """Refuse two results under one name, which in some file systems ignores case."""
    places: dict[str, ColorJob] = {SHEET: ColorJob(Path(SHEET), Path(SHEET), "")}
    for job in jobs:
        other = places.setdefault(job.out.name.lower(), job)
        if other is not job:
            raise InputError(f"{other.source} and {job.source} would both become {job.out}; rename one")
