"""Which pictures are colorized, by which prompts, and where they go: one, a folder's, a dataset's."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pellucid.apply.inputs import check_radar_picture
from pellucid.apply.outputs import Output, check_outputs
from pellucid.config import Config
from pellucid.data.drawing import spread
from pellucid.data.files import check_folder
from pellucid.data.radar_picture import check_picture_output, find_pictures
from pellucid.data.slice_file import TIFF
from pellucid.datasets import sar_optical
from pellucid.datasets.sar_optical import LISTS, SarOptical, fill_prompt
from pellucid.errors import InputError

# The overview of a folder's results, in it.
SHEET = "sheet.png"
# Why results go to a folder.
SEVERAL = "several pictures are to be made"
# Pairs of a dataset, by default.
NUM_SAMPLES = 10

# Of the published colorization.
KNOWN = {
    "region": ("tropical", "temperate", "arctic"),
    "season": ("winter", "spring", "summer", "autumn", "fall"),
}
DEFAULT: str = sar_optical.Config.model_fields["prompt"].default


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt, and the words that name its pictures.

    Attributes:
        text: the prompt.
        words: its region and season; those that are given.
    """

    text: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColorJob:
    """One picture to be made.

    Attributes:
        source: the radar.
        out: the picture in colour.
        prompt: the text.
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
    prompts: Sequence[NamedPrompt],
    guess: Path | None = None,
    own_prompts: str = "",
    num_samples: int | None = None,
    folders: tuple[str, ...] = (),
) -> list[ColorJob]:
    """Return what is to be made of a picture, the pictures of a folder, or the pairs of a dataset.

    Args:
        source: one of these.
        out: a picture, or, for all but one picture with one prompt, a folder.
        prompts: of which a dataset takes one at most.
        guess: picture in colour that one picture starts from.
        own_prompts: template of a dataset's own prompts, which they follow instead; "" for none.
        num_samples: pairs of a dataset, at most; None: `NUM_SAMPLES`.
        folders: region folders of a dataset.

    Raises:
        InputError: if these contradict each other, a file cannot be read or the result not be written.
    """
    check_radar_picture(source)
    is_single = not source.is_dir() and len(prompts) == 1
    if guess and not is_single:
        raise InputError("--guess is for one picture and one prompt; leave it out, or name one picture")
    if is_dataset(source):
        if len(prompts) > 1:
            raise InputError(
                f"{source} is a dataset, whose pairs are each made once; name one region and season, or none"
            )
        return plan_dataset(
            source,
            out,
            template=own_prompts,
            num_samples=num_samples or NUM_SAMPLES,
            folders=folders,
            prompt=None if own_prompts else prompts[0],
        )
    if num_samples or folders:
        option = "--num-samples" if num_samples else "--folders"
        raise InputError(f"{option} is for datasets, and {source} holds no {LISTS}; leave it out")
    return plan_file(source, out, prompts[0], guess) if is_single else plan_grid(source, out, prompts)


def plan_file(source: Path, out: Path, prompt: NamedPrompt, guess: Path | None = None) -> list[ColorJob]:
    """Return the job of one picture.

    Raises:
        InputError: if `out` cannot be written, or is an input.
    """
    check_picture_output(out)
    check_outputs([Output(out, source)], [path for path in (source, guess) if path])
    return [ColorJob(source, out, prompt.text, name=source.name, guess=guess)]


def plan_grid(source: Path, out: Path, prompts: Sequence[NamedPrompt]) -> list[ColorJob]:
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
            out
            / f"{'_'.join((path.stem, *prompt.words))}{'.tif' if path.suffix.lower() in TIFF else '.png'}",
            prompt.text,
            ", ".join(prompt.words) or "result",
            path.name,
        )
        for path in files
        for prompt in prompts
    ]
    _check_folder_outputs(out, jobs)
    return jobs


def plan_dataset(
    root: Path,
    out: Path,
    *,
    template: str,
    num_samples: int,
    folders: tuple[str, ...] = (),
    prompt: NamedPrompt | None = None,
) -> list[ColorJob]:
    """Return the jobs of pairs that are spread evenly over a dataset, each with its own prompt.

    Args:
        root: of the dataset; see `SarOptical`.
        out: folder of the results.
        template: of the prompts.
        num_samples: pairs, at most.
        folders: region folders to choose from; none: all.
        prompt: one in place of all their own.

    Raises:
        InputError: if the dataset cannot be read, or the folder not be made.
    """
    data = SarOptical(sar_optical.Config(root=root, prompt=template, folders=folders))
    check_folder(out, root, reason=SEVERAL)
    jobs = []
    for at in spread(num_samples, len(data)):
        pair, text = data.pairs[at], prompt.text if prompt else data.prompts[at]
        file = out / f"{pair.group}_{Path(pair.key).name}.png"
        jobs.append(ColorJob(pair.sar, file, text, name=f"{pair.key}: {text}", truth=pair.optical))
    _check_folder_outputs(out, jobs)
    return jobs


def is_dataset(source: Path) -> bool:
    """Whether a folder holds lists of pairs."""
    return source.is_dir() and any(source.glob(LISTS))


def _check_folder_outputs(out: Path, jobs: Sequence[ColorJob]) -> None:
    """Refuse two results of one name, or one that the overview has."""
    outputs = [Output(job.out, job.source) for job in jobs]
    sources = [job.source for job in jobs]
    check_outputs([Output(out / SHEET, Path(SHEET)), *outputs], sources, in_folder=True, ignore_case=True)


def trained_pictures(config: Config) -> sar_optical.Config | None:
    """Return the first source of pictures that a run was trained on; None if there is none."""
    return next((source for source in config.data.train if isinstance(source, sar_optical.Config)), None)


def find_template(config: Config) -> str:
    """Return the template of the prompts of a run's training data, or the default one."""
    pictures = trained_pictures(config)
    return pictures.prompt if pictures else DEFAULT


class Prompts:
    """Prompts as in training.

    Args:
        template: with {region} and {season}; see `fill_prompt`.
        texts: of training, whose regions and seasons are known besides the published ones.

    Attributes:
        known: regions and seasons, by what they are.
    """

    def __init__(self, template: str = DEFAULT, texts: Iterable[str] = ()) -> None:
        self.template = template
        texts = tuple(texts)
        self.known = {
            column: tuple(dict.fromkeys((*words, *_find_words(template, column, texts))))
            for column, words in KNOWN.items()
        }

    def fill(self, region: str = "", season: str = "") -> str:
        """Return the prompt of a region and a season, without what says nothing where they are "".

        Raises:
            InputError: if one is not known, or the template has no place for it.
        """
        words = {"region": region, "season": season}
        return fill_prompt(
            self.template, {column: self._check(column, word) for column, word in words.items()}
        )

    def combine(self, regions: Sequence[str] = (), seasons: Sequence[str] = ()) -> list[NamedPrompt]:
        """Return each region with each season; without any, the prompt that names none.

        Raises:
            InputError: see `fill`.
        """
        pairs = product(dict.fromkeys(regions or [""]), dict.fromkeys(seasons or [""]))
        return [NamedPrompt(self.fill(*pair), tuple(word for word in pair if word)) for pair in pairs]

    def _check(self, column: str, word: str) -> str:
        """Return the word as it is known."""
        if not word:
            return ""
        if f"{{{column}}}" not in self.template:
            raise InputError(
                f"--{column} is {word!r}, but the prompts of this model, {self.template!r}, name none; "
                "leave it out, or write a whole --prompt"
            )
        for known in self.known[column]:
            if known.lower() == word.strip().lower():
                return known
        raise InputError(
            f"--{column} is {word!r}, known are {', '.join(self.known[column])}; choose one of them, or "
            "write a whole --prompt"
        )


def _find_words(template: str, column: str, texts: Iterable[str]) -> list[str]:
    """Return what stands in the texts where the template has the column beside other words, sorted."""
    place = f"{{{column}}}"
    clause = next((part.strip() for part in template.split(",") if place in part), None)
    if clause is None or clause == place:  # which would be any clause
        return []
    # Other columns in the clause may be anything.
    parts = [re.escape(re.sub(r"\{[^}]*\}", "\0", part)).replace("\0", ".*") for part in clause.split(place)]
    pattern = re.compile("(.+)".join(parts))
    found = (pattern.fullmatch(part.strip()) for text in texts for part in text.split(","))
    return sorted({match[1] for match in found if match})
