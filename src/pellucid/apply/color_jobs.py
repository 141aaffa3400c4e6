"""Which pictures are colorized, by which prompts, and where they go: one, a folder's, a dataset's."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from pellucid.apply.inputs import check_radar_picture
from pellucid.apply.outputs import Output, check_outputs
from pellucid.config import Config
from pellucid.data.drawing import spread
from pellucid.data.files import check_folder
from pellucid.data.prompts import fill_prompt
from pellucid.data.radar_picture import check_picture_output, find_pages, find_pictures
from pellucid.data.slice_file import TIFF
from pellucid.datasets import sar_optical
from pellucid.datasets.sar_optical import LISTS, SarOptical
from pellucid.errors import InputError

# The overview of a folder's results, in it; why they go to a folder; pairs of a dataset, by default.
SHEET, SEVERAL, NUM_SAMPLES = "sheet.png", "several pictures are to be made", 10
# Of the published colorization.
KNOWN = {
    "region": ("tropical", "temperate", "arctic"),
    "season": ("winter", "spring", "summer", "autumn", "fall"),
}
DEFAULT: str = sar_optical.Config.model_fields["prompt"].default


@dataclass(frozen=True)
class NamedPrompt:
    """A prompt, and the words that name its pictures: those of region and season that are given."""

    text: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColorJob:
    """One picture to be made."""

    source: Path  # the radar
    out: Path
    prompt: str
    label: str = "result"  # the prompt, in short, for a sheet
    name: str = ""  # the place, for a sheet
    guess: Path | None = None  # picture in colour that sampling may start from
    truth: Path | None = None  # picture in colour to compare with
    page: str = ""  # of a TIFF of several, as GDAL calls it
    tone: Path | None = None  # picture in colour whose mean colour the result gets

    @property
    def radar(self) -> tuple[Path, str]:
        """Return what tells one radar image from another: its file and its page."""
        return self.source, self.page

    @property
    def inputs(self) -> list[Path]:
        """Return the files on which the picture depends."""
        return [path for path in (self.source, self.guess, self.tone) if path]


def plan(
    source: Path,
    out: Path,
    *,
    prompts: Sequence[NamedPrompt],
    guess: Path | None = None,
    tone: Path | None = None,
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
        tone: picture in colour whose mean colour all results get.
        own_prompts: template of a dataset's own prompts, which they follow instead; "" for none.
        num_samples: pairs of a dataset, at most; None: `NUM_SAMPLES`.
        folders: region folders of a dataset to choose from; none: all.
    """
    check_radar_picture(source)
    is_single = not source.is_dir() and len(prompts) == 1 and not find_pages(source)
    if guess and not is_single:
        raise InputError("--guess is for one picture and one prompt; leave it out, or name one picture")
    if is_dataset(source):
        if len(prompts) > 1:
            raise InputError(
                f"{source} is a dataset, whose pairs are each made once; name one region and season, or none"
            )
        data = SarOptical(sar_optical.Config(root=source, prompt=own_prompts, folders=folders))
        prompt = None if own_prompts else prompts[0].text
        return _plan_dataset(data, source, out, num_samples or NUM_SAMPLES, prompt, tone)
    if num_samples or folders:
        option = "--num-samples" if num_samples else "--folders"
        raise InputError(f"{option} is for datasets, and {source} holds no {LISTS}; leave it out")
    if not is_single:
        return _plan_grid(source, out, prompts, tone)
    check_picture_output(out)
    check_outputs([Output(out, source)], [path for path in (source, guess, tone) if path])
    return [ColorJob(source, out, prompts[0].text, name=source.name, guess=guess, tone=tone)]


def _plan_grid(source: Path, out: Path, prompts: Sequence[NamedPrompt], tone: Path | None) -> list[ColorJob]:
    """Return the jobs of a picture's pages, or a folder's, with every prompt, as `a_tropical_summer.png`."""
    files = find_pictures(source) if source.is_dir() else [source]
    check_folder(out, source if source.is_dir() else source.parent, reason=SEVERAL)
    jobs = []
    for (path, name, page), prompt in product(_find_images(files), prompts):
        suffix = ".tif" if path.suffix.lower() in TIFF else ".png"
        file, label = out / f"{'_'.join((name, *prompt.words))}{suffix}", ", ".join(prompt.words)
        title = name if page else path.name
        jobs.append(ColorJob(path, file, prompt.text, label or "result", title, page=page, tone=tone))
    return _check_folder_outputs(out, jobs)


def _find_images(files: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    """Yield file, name and page of each radar image; those of a TIFF are numbered from 0, as slices are."""
    for path in files:
        pages = find_pages(path)
        yield from ((path, f"{path.stem}_page{number:04d}", page) for number, page in enumerate(pages))
        if not pages:
            yield path, path.stem, ""


def _plan_dataset(
    data: SarOptical, root: Path, out: Path, num_samples: int, prompt: str | None, tone: Path | None
) -> list[ColorJob]:
    """Return the jobs of pairs that are spread evenly over a dataset, with their own prompts or the given."""
    check_folder(out, root, reason=SEVERAL)
    jobs = []
    for at in spread(num_samples, len(data)):
        pair, text = data.pairs[at], data.prompts[at] if prompt is None else prompt
        file = out / f"{pair.group}_{Path(pair.key).name}.png"
        jobs.append(ColorJob(pair.sar, file, text, name=f"{pair.key}: {text}", truth=pair.optical, tone=tone))
    return _check_folder_outputs(out, jobs)


def is_dataset(source: Path) -> bool:
    """Whether a folder holds lists of pairs."""
    return source.is_dir() and any(source.glob(LISTS))


def _check_folder_outputs(out: Path, jobs: list[ColorJob]) -> list[ColorJob]:
    """Return the jobs, after refusing two results of one name, or one that the overview has."""
    sheet = Output(out / SHEET, Path(SHEET))
    outputs = [sheet, *(Output(job.out, job.source) for job in jobs)]
    inputs = [path for job in jobs for path in (job.source, job.guess, job.truth, job.tone) if path]
    check_outputs(outputs, inputs, folders=[out], ignore_case=True, replaces=True)
    check_outputs([sheet], inputs, folders=[out])
    return jobs


def trained_pictures(config: Config) -> sar_optical.Config | None:
    """Return the first source of pictures that a run was trained on; None if there is none."""
    return next((source for source in config.data.train if isinstance(source, sar_optical.Config)), None)


def find_template(config: Config) -> str:
    """Return the template of the prompts of a run's training data, or the default one."""
    pictures = trained_pictures(config)
    return pictures.prompt if pictures else DEFAULT


class Prompts:
    """Prompts as in training: a template with {region} and {season}, see `fill_prompt`, and the known words.

    Regions and seasons in the `texts` of training are known besides the published ones.
    """

    def __init__(self, template: str = DEFAULT, texts: Iterable[str] = ()) -> None:
        self.template = template
        texts = tuple(texts)
        self.known = {
            column: tuple(dict.fromkeys((*words, *_find_words(template, column, texts))))
            for column, words in KNOWN.items()
        }

    def fill(self, region: str = "", season: str = "") -> str:
        """Return the prompt of a region and a season, without what says nothing where they are ""."""
        words = {"region": self._check("region", region), "season": self._check("season", season)}
        return fill_prompt(self.template, words)

    def combine(self, regions: Sequence[str] = (), seasons: Sequence[str] = ()) -> list[NamedPrompt]:
        """Return each region with each season; without any, the prompt that names none."""
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
