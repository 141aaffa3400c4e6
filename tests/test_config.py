from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pellucid.config import Config, DataConfig, TrainConfig, load_config, save_config
from pellucid.data.schema import parse, read_yaml
from pellucid.datasets import synthetic
from pellucid.errors import InputError, nearest

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


def test_the_saved_config_is_complete(file: Path) -> None:
    save_config(load_config(file), file)
    (source,) = yaml.safe_load(file.read_text())["data"]["train"]
    assert source == {"name": "synthetic", "num_scenes": 2, "size": 256, "seed": 0, "weight": 1.0}
    assert list(source) == list(synthetic.Config.model_fields)


def test_a_source_may_be_given_as_its_config(file: Path) -> None:
    source = synthetic.Config(num_scenes=2)
    data = DataConfig(train=(source,))
    assert data.train == (source,) == load_config(file).data.train


def test_a_change_steps_into_lists(file: Path) -> None:
    assert load_config(file, ("data.train.0.num_scenes=5",)).data.train[0].num_scenes == 5


def test_environment_variables_are_filled_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATA", "somewhere")
    file.write_text(
        MINIMAL.replace("{name: synthetic, num_scenes: 2}", "{name: sen12ms_cr, root: '${SOME_DATA}/x'}")
    )
    assert load_config(file).data.train[0].root == Path("somewhere/x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.learning_rat=1", "unknown key 'train.learning_rat'; did you mean 'learning_rate'"),
        ("num_steps=1", "unknown key 'num_steps'; did you mean 'train.num_steps'"),
        ("train.batch=0", "'train.batch' is 0, input should be greater than 0"),
        ("train.batch=many", "'train.batch' is 'many'"),
        ("data.tile", "has no '='"),
        ("data.train.3.seed=1", "does not fit the config"),
        ("method.name=regresion", "'method.name' is 'regresion'; did you mean 'regression'"),
        ("method.opticl=1", "unknown key 'method.opticl'; did you mean 'optical'"),
        ("data.train.0.exclud=1", "unknown key 'data.train.0.exclud'; known are name, num_scenes, seed"),
        ("data.augment.clouds=1", "unknown key 'data.augment.clouds'; did you mean 'score_clouds'"),
        ("train.schedule=cosin", "'step' or 'cosine'; did you mean 'cosine'"),
        ("train.batch=[[[[[[[[[[1]]]]]]]]]]", "'train.batch' is [[[[[[[...]"),
        ("train.seed=2001-99-99", "does not fit the config"),
        ("method.prompt={season}, {place}", "needs quotes of its own, --set 'method.prompt=\"...\"'"),
        ("losses.l3=1", "losses.l3 is not a known term; did you mean 'l"),
        ("data.train.0.nam_scenes=1", "unknown key 'data.train.0.nam_scenes'; did you mean 'num_scenes'"),
        ("data.train.0.name=syntetic", "no layout of data is called 'syntetic'; did you mean 'synthetic'"),
        ("data.train.0.num_scenes=0", "'data.train.0.num_scenes' is 0, input should be greater than 0"),
        ("data.train.0={num_scenes: 2}", "key 'data.train.0.name' is missing"),
        ("data.val=[{name: sen12ms_cr}]", "key 'data.val.0.root' is missing"),
        ("data.train.0=synthetic", "'data.train.0' is 'synthetic', input should be a valid dictionary"),
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


def test_a_misspelt_key_is_named_before_the_one_that_is_missing_for_it(file: Path) -> None:
    file.write_text(MINIMAL.replace("network:", "netwrok:"))
    with pytest.raises(InputError, match="unknown key 'netwrok'; did you mean 'network'"):
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 1000, "nested more than 32 deep"),
        ("a: &a {<<: *a}", "an alias in it stands for what it is a part of"),
        ("a: &a [*a]", r"the alias \*a stands where no keys are merged \(<<: \*a\); write it out"),
        ("a: &a 1\nb: *a", r"the alias \*a stands where"),
        ("a: &a {x: 1}\nb: {<<: {y: *a}}", r"the alias \*a stands where"),
        ("a: &a {x: 1}\n? *a\n: 2", r"the alias \*a stands where"),
        (
            "a0: &a0 {x: [1,1,1,1,1,1,1,1,1,1]}\n"
            + "".join(f"a{i}: &a{i} {{<<: [" + f"*a{i - 1}," * 10 + "]}\n" for i in range(1, 9)),
            "holds more than 100,000 values, aliases written out",
        ),
        ("a: 2001-99-99", "is not valid YAML: month must be in"),
        ("a: !!python/object/apply:os.system [ls]", "is not valid YAML: could not determine a constructor"),
    ],
)
def test_yaml_that_is_no_config_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(tmp_path / "config.yaml")


def test_merged_keys_are_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: [{<<: [*a, *b], y: 3}]\n")
    expected = {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1, "y": 3}]}
    assert read_yaml(tmp_path / "c.yaml") == expected


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(
            ("lr", "learning_rate"),
            ("steps", "num_steps"),
            ("batch_size", "batch"),
            ("gpus", "num_devices"),
            ("nodes", "num_nodes"),
        ),
        *(("num_epochs", "epochs"), ("grad_clip", "clip_norm"), ("max_grad_norm", "clip_norm")),
        *(("warmup", "warmup_steps"), ("workers", "num_workers"), ("precison", "precision")),
    ],
)
def test_the_hint_names_what_was_meant(typed: str, meant: str) -> None:
    assert nearest(typed, [*TrainConfig.model_fields]) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize("typed", ["optimizer", "resume", "dropout", "log_dir"])
def test_no_hint_is_better_than_a_wrong_one(typed: str) -> None:
    assert nearest(typed, [*TrainConfig.model_fields]).startswith("; known are accumulate, batch")
