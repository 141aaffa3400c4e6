import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import rasterio
from tests.tiny import tiny_method

from pellucid.datasets._listing import Patches
from pellucid.datasets._splits import hash_splits, read_splits
from pellucid.errors import InputError
from pellucid.evaluation.audit_split import read_any_split
from pellucid.evaluation.benchmark_data import FOLDER, Chosen, Picked, Selection, choose, read_images
from pellucid.simulate.pairs import simulate_pairs

CONFIGS = Path(__file__).parents[2] / "configs"
TEST = ("ROIs1158_spring_106", "ROIs1868_summer_73")


def copy(folder: Path, made: Path, names: Sequence[str]) -> Path:
    """Lay out pairs of other places under these names, as the plain folders of SEN12MS-CR."""
    sources = sorted(path.name for path in (made / "s1").iterdir())
    for kind in ("s1", "s2_cloudy", "s2_cloudfree"):
        (folder / kind).mkdir(parents=True)
        for name, source in zip(names, sources, strict=False):
            shutil.copy(made / kind / source, folder / kind / f"{name}_p1.tif")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    simulate_pairs(folder, count=4, size=32, seed=0)
    return folder


def select(selection: Selection) -> tuple[Patches, Chosen]:
    patches = read_images(tiny_method(), selection)
    return patches, choose(patches, selection)


def test_the_splits_that_ship_have_their_digests_and_strict_is_that_of_the_configs() -> None:
    strict = read_splits(FOLDER / "sen12ms_cr_strict.json")
    assert strict == read_splits(CONFIGS / "sen12ms_cr_splits.json")
    assert [len(strict[split]) for split in ("train", "val", "test")] == [155, 10, 10]
    legacy = json.loads((FOLDER / "sen12ms_cr_legacy.json").read_text())
    assert legacy["sha256"] == hash_splits(legacy["splits"])


def test_legacy_is_what_a_search_inside_names_makes_of_strict() -> None:
    strict = read_splits(FOLDER / "sen12ms_cr_strict.json")
    legacy = read_any_split(FOLDER / "sen12ms_cr_legacy.json").names
    every = [name for names in strict.values() for name in names]
    for split, listed in strict.items():
        assert {*legacy[split]} == {name for name in every if any(each in name for each in listed)}
    assert len({*legacy["train"]} & {*legacy["test"]}) == 6


def test_a_part_of_the_data_is_evaluated_and_the_rest_said_to_be_missing(made: Path, tmp_path: Path) -> None:
    folder = copy(tmp_path / "data", made, [*TEST, "ROIs1158_spring_1"])
    patches, chosen = select(Selection(folder))
    assert len(patches) == 3
    assert chosen.groups == TEST
    assert chosen.sha256 == hash_splits(read_splits(FOLDER / "sen12ms_cr_strict.json"))
    assert chosen.notes == (
        "8 of the 10 places of test are missing: ROIs1158_spring_31, ROIs1158_spring_44, "
        "ROIs1158_spring_123, ROIs1158_spring_140, ROIs1868_summer_119 ...",
    )
    picked = Picked(patches, chosen.at)
    assert [picked[i].key[0] for i in range(2)] == [f"{name}_p1" for name in TEST]
    _, chosen = select(Selection(folder, "legacy"))
    assert "2 of these places" not in " ".join(chosen.notes)
    assert "6 of these places are in another part of this split too" in " ".join(chosen.notes)


def test_strict_leaves_out_what_overlaps_a_place_of_training(made: Path, tmp_path: Path) -> None:
    folder = copy(tmp_path / "data", made, [*TEST, "ROIs1158_spring_1"])
    with rasterio.open(folder / "s2_cloudfree" / f"{TEST[0]}_p1.tif") as file:
        place = file.transform
    with rasterio.open(folder / "s2_cloudfree" / "ROIs1158_spring_1_p1.tif", "r+") as file:
        file.transform = place @ place.translation(-16, 16)
    _, chosen = select(Selection(folder))
    assert chosen.groups == TEST[1:]
    assert "1 images are left out, which overlap a place of another part" in chosen.notes
    assert select(Selection(folder, "legacy"))[1].groups == TEST


def test_the_split_of_the_data_a_file_and_a_few_images(made: Path, tmp_path: Path) -> None:
    patches, chosen = select(Selection(made, "all"))
    assert chosen.at == (0, 1, 2, 3)
    assert select(Selection(made, "all", limit=2))[1].notes == ("2 of 4 images are evaluated, spread evenly",)
    _, own = select(Selection(made, "own"))
    assert 0 < len(own.at) < 4
    assert len(own.sha256) == 64
    split = tmp_path / "mine.json"
    split.write_text(json.dumps({"test": [patches.groups[2], "nowhere"]}))
    _, chosen = select(Selection(made, str(split)))
    assert chosen.keys == (patches.keys[2],)
    assert chosen.notes == ("1 of the 2 places of test are missing: nowhere",)


def test_what_gives_no_image_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no image of test of the split strict: 10 of the 10 places"):
        select(Selection(made))
    with pytest.raises(InputError, match="must be strict, legacy, own, all or a file"):
        select(Selection(made, "strikt"))
    folder = copy(tmp_path / "data", made, TEST)
    with pytest.raises(InputError, match="has no split of its own"):
        select(Selection(folder, "own"))
    split = tmp_path / "mine.json"
    split.write_text(json.dumps({"train": ["x"]}))
    with pytest.raises(InputError, match="has no places of test; it has train"):
        select(Selection(made, str(split)))
