from dataclasses import dataclass
from pathlib import Path

import pytest

from pellucid.config import Config, load_config, save_config
from pellucid.errors import InputError
from pellucid.schema import parse

MINIMAL = """
network: {name: cross_attention}
data:
  train:
    - {name: synthetic, num_scenes: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL)
    return path


def test_a_saved_config_loads_as_itself(file: Path) -> None:
    config = load_config(file, ("train.num_steps=7", "losses={l2: 0.5}"))
    save_config(config, file)
    assert load_config(file) == config
    assert config.train.num_steps == 7
    assert config.losses == {"l2": 0.5}


def test_a_change_steps_into_lists(file: Path) -> None:
    assert load_config(file, ("data.train.0.num_scenes=5",)).data.train[0].num_scenes == 5  # type: ignore[union-attr]


def test_environment_variables_are_filled_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", "somewhere")
    file.write_text(
        MINIMAL.replace("{name: synthetic, num_scenes: 2}", "{name: sen12ms_cr, root: '${SOME_DATA}/x'}")
    )
    assert load_config(file).data.train[0].root == Path("somewhere/x")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.learning_rat=1", "unknown key 'train.learning_rat'; did you mean 'learning_rate'"),
        ("train.batch=0", "'train.batch' is 0, input should be greater than 0"),
        ("train.batch=many", "'train.batch' is 'many'"),
        ("data.tile", "has no '='"),
        ("data.train.3.seed=1", "does not fit the config"),
        ("losses.l3=1", "losses.l3 is not a known term; did you mean 'l"),
    ],
)
def test_a_wrong_change_is_explained(file: Path, change: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        load_config(file, (change,))
    assert message in str(raised.value)


def test_a_missing_key_is_named(file: Path) -> None:
    file.write_text("network: {name: glf_cr}\n")
    with pytest.raises(InputError, match="key 'data' is missing"):
        load_config(file)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("", "holds no keys")])
def test_a_broken_file_is_explained(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(file)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the config .*No such file"):
        load_config(tmp_path / "none.yaml")


def test_unknown_keys_of_a_dataclass_are_refused_with_the_nearest_name() -> None:
    @dataclass(frozen=True)
    class Size:
        width: int = 1

    assert parse(Size, {"width": 3}, where="network") == Size(3)
    with pytest.raises(InputError, match="network: unknown key 'widht'; did you mean 'width'"):
        parse(Size, {"widht": 3}, where="network")


def test_every_config_of_the_repository_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_DATA", "data")
    files = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
    assert files
    for path in files:
        assert isinstance(load_config(path), Config)
