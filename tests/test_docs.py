"""The pages are true: commands and Python run as they stand, links lead somewhere, each file has its line."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import typer
import yaml
from checkpoints import COLORIZER_TEXT, autoencoder_weights, colorizer_weights, flow_weights
from PIL import Image
from safetensors.torch import save_file
from tests.painters import save_radar
from tests.pairs import write_pairs
from tests.products import ramps, write_jp2, write_product
from tests.published.test_settings import CLIP, MODEL
from typer.testing import CliRunner

from pellucid.build.method import build_network
from pellucid.cli import app
from pellucid.config import DataConfig, load_config
from pellucid.data.schema import parse
from pellucid.data.tokenizer import default_tokenizer
from pellucid.generative.path import beta_schedule
from pellucid.networks import sr3_unet
from pellucid.simulate.pairs import simulate_pairs

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "pellucid"
README, CONTRIBUTING = REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"
PAGES = (README, *sorted((REPOSITORY / "docs").glob("*.md")))
ALL_PAGES = (*PAGES, CONTRIBUTING, REPOSITORY / "CHANGELOG.md", REPOSITORY / "SECURITY.md")
# Lines of code blocks that the tests do not run, and why.
NOT_RUN = {
    r"make \w+": "installs everything; that the target exists is tested",
    r"\. \.venv/bin/activate": "changes the shell of the reader",
    r"export PELLUCID_DATA=": "the tests have the images elsewhere",
    r"(torchrun|--no-python) ": "needs several machines; tests/systems/test_processes.py has two processes",
    r"python -m benchmarks\.": "takes minutes to hours; that the module exists is tested",
}
MAX_README_LINES = 150
# What makes a run of days one of seconds; the data are as few.
QUICK = (
    *("train.num_steps=2", "train.batch=1", "train.validate_every=2", "train.checkpoint_every=2"),
    *("train.num_workers=0", "train.precision=fp32", "train.steps_per_epoch=1", "data.tile=32"),
    *("train.epochs=0", "train.validate_every_epochs=0", "train.checkpoint_every_epochs=0"),
)
TINY_AUTOENCODER = (
    "network={name: autoencoder, width: 4, multipliers: [1, 2], num_blocks: 1, latent_channels: 2, groups: 4}"
)
TINY_UNET = "network={name: sr3_unet, width: 8, multipliers: [1, 2], num_blocks: 1, groups: 4}"
SMALL = {
    "configs/glf_cr.yaml": ["network={name: glf_cr, num_blocks: 1, num_layers: 2, width: 16, growth: 8}"],
    "configs/cross_attention.yaml": ["network={name: cross_attention, width: 8}"],
    "configs/sr3_ct_x4.yaml": [TINY_UNET],
    "configs/sr3_ct_x8.yaml": [TINY_UNET],
    "configs/cloud_flow_autoencoder.yaml": [TINY_AUTOENCODER],
    "configs/cloud_flow_sar_autoencoder.yaml": [TINY_AUTOENCODER],
    "configs/cloud_flow.yaml": [
        "network={name: flux, width: 16, num_heads: 1, num_double: 1, num_single: 1}"
    ],
    "configs/text_encoder.yaml": ["network={name: text_encoder, width: 8, num_layers: 1, num_heads: 1}"],
    "configs/colorize_autoencoder.yaml": ["network={name: autoencoder, width: 4, num_blocks: 1, groups: 4}"],
    "configs/colorize.yaml": [
        "network={name: text_unet, model_channels: 4, channel_mult: [1], attention_resolutions: []}",
        *("network.groups=4", "network.num_heads=1", "method.steps=2"),
    ],
}
SMALL |= {
    "clip_config.json": SMALL["configs/text_encoder.yaml"],
    "model_config.json": SMALL["configs/colorize.yaml"],
}


class Item(NamedTuple):
    """A command that starts with `pellucid`, or a block of Python."""

    language: str
    text: str


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of each code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """Return the page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def items(page: Path) -> Iterator[Item]:
    """Yield what runs, each once and in the order of the text.

    Of code blocks, that is each command and each block of Python; of tables, each command in the last column.
    """
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$|^\|([^\n]*)\|$", read(page), re.DOTALL | re.MULTILINE):
        language, block, row = found.groups(default="")
        if language == "python":
            yield Item(language, block)
        commands = (line.partition("#")[0].strip() for line in block.splitlines())
        yield from (Item("bash", command) for command in commands if command.startswith("pellucid "))
        in_row = re.findall(r"`(pellucid [^`]*)`", row.rpartition(" | ")[2])
        yield from (Item("bash", command) for command in in_row)


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the pages speak of: scenes, datasets, published checkpoints."""
    folder = tmp_path_factory.mktemp("desk")
    made = folder / "DIR"
    simulate_pairs(made, count=5, size=128, seed=0)
    patch = sorted((made / "s1").iterdir())[0].name
    shutil.copy(made / "s2_cloudy" / patch, folder / "S2.tif")
    shutil.copy(made / "s1" / patch, folder / "S1.tif")
    shutil.copy(made / "s2_cloudfree" / patch, folder / "OLDER.tif")
    shutil.copy(made / "mask" / patch, folder / "MASK.tif")
    for place, source in (("scenes/S2.tif", "s2_cloudy"), (f"my_clear_scenes/{patch}", "s2_cloudfree")):
        (folder / place).parent.mkdir()
        shutil.copy(made / source / patch, folder / place)
    for roi, number in (("ROIs1158_spring", 1), ("ROIs1868_summer", 19), ("ROIs1158_spring", 106)):
        for sensor, source in (("s1", "s1"), ("s2", "s2_cloudfree"), ("s2_cloudy", "s2_cloudy")):
            place = folder / "data" / "SEN12MSCR" / f"{roi}_{sensor}" / f"{sensor}_{number}"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(made / source / patch, place / f"{roi}_{sensor}_{number}_p30.tif")
    write_product(folder)
    for number, metres in (("02", 10), ("03", 10), ("04", 10), ("11", 20)):
        write_jp2(folder / "bands" / f"T33UUP_B{number}_{metres}m.jp2", ramps(1, 1200 // metres)[0], metres)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    (folder / "benchmarks").mkdir()
    for places in (
        "ground_places.yaml",
        "ground_more_places.yaml",
        "ground_skies.yaml",
        "ground_many_skies.yaml",
    ):
        shutil.copy(REPOSITORY / "benchmarks" / places, folder / "benchmarks")
    _lay_out_checkpoints(folder)
    _lay_out_slices(folder)
    write_pairs(folder / "data" / "Dataset")
    for place in ("sar.png", "pictures/a.png"):
        save_radar(folder / place, 32, 32)
    return folder


def _lay_out_checkpoints(folder: Path) -> None:
    """Save weights as the published systems do."""
    for file, network, key in (
        ("CR_net.pth", "glf_cr", "network"),
        ("X.pth", "cross_attention", "model_state_dict"),
    ):
        config = load_config(REPOSITORY / "configs" / f"{network}.yaml")
        torch.save({key: build_network(config).state_dict()}, folder / file)
    torch.save({"model_state_dict": colorizer_weights()}, folder / "sar_model_best.pt")
    for file, bands in (("vae.pth", 3), ("vae_sar.pth", 2)):
        torch.save(autoencoder_weights(bands=bands, latent_channels=4), folder / file)
    torch.save(flow_weights(), folder / "rf.pth")
    (folder / "clip_config.json").write_text(CLIP)
    (folder / "model_config.json").write_text(MODEL)
    (folder / "tokenizer.json").write_text(default_tokenizer(length=COLORIZER_TEXT.length).to_json())
    network = sr3_unet.build(sr3_unet.Config(width=16, multipliers=(1, 2), num_blocks=1, groups=16))
    state = {f"denoise_fn.{key}": value.contiguous() for key, value in network.state_dict().items()}
    save_file({**state, "betas": beta_schedule("cosine", 100).float()}, folder / "gen.safetensors")


def _lay_out_slices(folder: Path) -> None:
    """Save slices under the names that the pages use."""
    values = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(values[:8, :8]).save(folder / "slice.png")
    for place, number, side in (
        *(("slices", number, 64) for number in (305, 310, 345)),
        *((f"data/ct/{kind}", number, 64) for kind, number in (("hr", 1), ("hr_val", 2))),
        *((f"data/ct/{kind}", number, 8) for kind, number in (("lr", 1), ("lr_val", 2))),
    ):
        (folder / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values[:side, :side]).save(folder / place / f"slice_{number:04d}.png")


def shortened(command: str) -> list[str]:
    """Return the words of a command, with options that make it quick, and real images where they lie."""
    words = [os.path.expandvars(word) for word in shlex.split(command)[1:]]
    if words[0] == "train":
        settings = [*SMALL[words[1]], *QUICK]
        words += [word for setting in settings for word in ("--set", setting)]
    if words[0] == "evaluate":
        fewer = {"r_006": "r_002", "310,345": "310,310"}  # 2 pairs instead of 54, 1 slice instead of 8
        words = [fewer.get(word, word) for word in words]
    if words[0] == "benchmark":
        words += ["--limit", "1", "--no-cost"]
    if words[0] == "colorize":
        words = ["2" if word in ("20", "50") else word for word in words]
    if words[0] == "demo":
        words += ["--size", "128"]
    if words[0] == "serve":
        words += ["--dry-run"]
    if words[0] == "simulate":
        words += ["--size", "64"]
        words = ["2" if word == "100" else word for word in words]
    return words


@pytest.mark.parametrize("page", [page for page in PAGES if any(items(page))], ids=name)
def test_a_page_runs_from_top_to_bottom(
    page: Path, desk: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "$PELLUCID_DATA" in read(page):
        monkeypatch.setenv("PELLUCID_DATA", str(request.getfixturevalue("data_folder")))
    for entry in desk.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in dict.fromkeys(items(page)):
        if language == "python":
            exec(text, names)
            continue
        words = shortened(text)
        # What an earlier command made, a later one with other options makes again.
        if words[0] == "train" and "--resume" not in words:
            shutil.rmtree(Path("runs", Path(words[1]).stem), ignore_errors=True)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{text}\n{result.output}"


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_every_code_block_runs_or_is_named_with_the_reason_why_not(page: Path) -> None:
    run = {item.text for item in items(page)} if page in PAGES else set()
    for language, block in blocks(page):
        match language:
            case "python":
                assert block in run or block in toys().values(), f"{name(page)} has\n{block}"
            case "bash":
                for command in filter(None, (line.partition("#")[0].strip() for line in block.splitlines())):
                    assert command in run or any(re.match(each, command) for each in NOT_RUN), command
            case "yaml":
                parse(DataConfig, {"train": yaml.safe_load(block)}, where=name(page))
            case _:
                assert language == "text", f"{name(page)} has a block in {language!r}"


def test_what_is_not_run_is_written_somewhere() -> None:
    lines = [line for page in ALL_PAGES for _, block in blocks(page) for line in block.splitlines()]
    assert all(any(re.match(pattern, line) for line in lines) for pattern in NOT_RUN)


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_links_pictures_and_named_files_exist(page: Path) -> None:
    text = prose(page)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
    for file in re.findall(r"`((?:configs|src|docs|benchmarks)/[\w/.]+)`", text):
        assert (REPOSITORY / file).exists(), file


def anchors(page: Path) -> list[str]:
    """Return how links name the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_commands_and_options_that_the_text_names_exist(page: Path) -> None:
    known = options(typer.main.get_command(app))
    # The first column of the tables has the commands of others.
    ours = re.sub(r"^\| .*? \|", "", prose(page), flags=re.MULTILINE)
    for code in re.findall(r"`([^`\n]+)`", ours):
        words = code.split()
        if words[0] == "pellucid" and words[1:] and words[1][:1] not in ("C", "-"):
            assert words[1] in known, code
        if words[0].startswith("--"):
            everything = {option for found in known.values() for option in found}
            assert {word for word in words if word.startswith("--")} <= everything, code


def options(group: typer.main.TyperGroup) -> dict[str, set[str]]:
    """Return the options of each command by its first word."""
    return {
        command: {option for each in found.params for option in (*each.opts, *each.secondary_opts)}
        for command, found in group.commands.items()
    }


def test_other_commands_of_the_text_have_a_target_or_a_module() -> None:
    targets = {*re.findall(r"^(\w+):", read(REPOSITORY / "Makefile"), re.MULTILINE)}
    for page in ALL_PAGES:
        assert {*re.findall(r"^make (\w+)", read(page), re.MULTILINE)} <= targets
        for module in re.findall(r"python -m (benchmarks\.\w+)", read(page)):
            assert (REPOSITORY / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_each_file_of_the_package_has_its_line() -> None:
    listed = re.findall(r"^\| `([\w/]+\.py)` \| \S", read(REPOSITORY / "docs" / "files.md"), re.MULTILINE)
    there = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    there = {path for path in there if not path.endswith("__init__.py")}
    faults = {
        "missing": sorted(there - set(listed)),
        "stale": sorted(set(listed) - there),
        "twice": sorted({path for path in listed if listed.count(path) > 1}),
    }
    text = "\n".join(f"{fault}: {path}" for fault, paths in faults.items() for path in paths)
    assert not text, f"docs/files.md\n{text}"


def test_a_config_opens_with_its_own_command_and_pages_that_exist() -> None:
    for path in sorted((REPOSITORY / "configs").glob("*.yaml")):
        header = "".join(re.findall(r"^#.*\n", read(path).partition("\nmethod:")[0] + "\n", re.MULTILINE))
        assert f"pellucid train configs/{path.name}" in header, path
        for page in re.findall(r"docs/\w+\.md", header):
            assert (REPOSITORY / page).is_file(), path


def toys() -> dict[str, str]:
    """Return the Python files of CONTRIBUTING.md by the path that the heading before each names."""
    pattern = r"^### [^`\n]*`([\w/]+\.py)`$.*?^```python\n(.*?)^```$"
    return dict(re.findall(pattern, read(CONTRIBUTING), re.DOTALL | re.MULTILINE))
