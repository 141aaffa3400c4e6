import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import BANDS, tiny_config, tiny_method

from pellucid.build import run
from pellucid.build.run import check_tokenizer, find_upscaler, read_metadata, read_run, save_run
from pellucid.data.files import write_atomically
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.tokenizer import Tokenizer, learn_tokenizer
from pellucid.errors import InputError
from pellucid.methods.tones import Tones


def test_a_run_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    config, method = tiny_config(num_steps=77), tiny_method()
    method.network.to(memory_format=torch.channels_last)
    save_run(tmp_path / "a" / "run", config=config, method=method)
    read_config, state, metadata = read_run(tmp_path / "a" / "run")
    assert read_config == config
    assert metadata.optical == SENTINEL2.select(BANDS)
    assert metadata.radar == SENTINEL1
    assert metadata.mean_spectrum == (0.15, 0.15, 0.15)
    assert state.keys() == method.network.state_dict().keys()
    for name, weight in method.network.state_dict().items():
        assert torch.equal(state[name], weight)


def test_a_config_that_is_not_the_one_of_the_weights_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    path = tmp_path / "config.yaml"
    text = path.read_text()
    path.write_text(f"# moved\n{text.replace('batch:', 'batch: ')}")
    read_metadata(tmp_path)
    assert not caplog.records
    path.write_text(re.sub(r"(?m)^method:\n(?:  .*\n)+", "", text))
    read_metadata(tmp_path)
    assert "what is left out has its default" in caplog.text


def test_the_mean_spectrum_may_be_unknown(tmp_path: Path) -> None:
    method = tiny_method()
    method.mean_spectrum = None
    save_run(tmp_path, config=tiny_config(), method=method)
    assert read_run(tmp_path)[2].mean_spectrum is None


def test_mean_colours_come_back_by_prompt(tmp_path: Path) -> None:
    method = tiny_method()
    save_run(tmp_path / "none", config=tiny_config(), method=method)
    assert read_run(tmp_path / "none")[2].mean_colors is None
    method.mean_colors = {"": (0.1, 0.2, 0.3), 'Region: arctic, "Eis"': (0.8, 0.9, 1.0)}
    save_run(tmp_path / "run", config=tiny_config(), method=method)
    assert read_run(tmp_path / "run")[2].mean_colors == method.mean_colors


def test_mean_colours_by_radar_come_back(tmp_path: Path) -> None:
    method = tiny_method()
    method.tones = Tones([[0.1, 0.2, 0.3, 0.4, 0.5], [0.3, 0.1, 0.5, 0.6, 0.7]])
    save_run(tmp_path / "run", config=tiny_config(), method=method)
    assert read_run(tmp_path / "run")[2].tones == method.tones.table


class _Reader:
    """A method with a tokenizer."""

    def __init__(self, *prompts: str) -> None:
        self.tokenizer = learn_tokenizer(prompts)

    def __getattr__(self, name: str) -> object:
        return getattr(tiny_method(), name)


def tokenizer_of(run: Path) -> Tokenizer:
    return check_tokenizer(run, read_metadata(run)[1])


def test_metadata_are_read_without_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    config, _, metadata = read_run(tmp_path)
    monkeypatch.setattr(run, "_single", None)  # which every tensor passes through
    assert read_metadata(tmp_path) == (config, metadata)


def test_a_tokenizer_comes_back_from_its_run(tmp_path: Path) -> None:
    method = _Reader("Region: sea", "Region: ice")
    save_run(tmp_path, config=tiny_config(), method=method)
    assert tokenizer_of(tmp_path).to_json() == method.tokenizer.to_json()
    digest = hashlib.sha256((tmp_path / "tokenizer.json").read_bytes()).hexdigest()
    assert read_run(tmp_path)[2].tokenizer == digest


def test_a_tokenizer_that_is_missing_or_another_one_is_refused(tmp_path: Path) -> None:
    for name, prompt in (("a", "Region: sea"), ("b", "Region: ice")):
        save_run(tmp_path / name, config=tiny_config(), method=_Reader(prompt))
    (tmp_path / "b" / "tokenizer.json").replace(tmp_path / "a" / "tokenizer.json")
    with pytest.raises(InputError, match=r"a.tokenizer.json is not the tokenizer of training: .* copy that"):
        tokenizer_of(tmp_path / "a")
    with pytest.raises(InputError, match=r"b lacks tokenizer.json, .*; copy it from there"):
        tokenizer_of(tmp_path / "b")
    save_run(tmp_path / "c", config=tiny_config(), method=tiny_method())
    with pytest.raises(InputError, match="c has no text encoder; name the run of a text encoder"):
        tokenizer_of(tmp_path / "c")


def test_half_precision_halves_the_file_and_keeps_three_digits(tmp_path: Path) -> None:
    method = tiny_method()
    method.network.register_buffer("steps", torch.tensor([70_001]))
    method.network.register_buffer("large", torch.rand(5000))
    for name, half in (("full", False), ("half", True)):
        save_run(tmp_path / name, config=tiny_config(), method=method, half=half)
    sizes = [(tmp_path / name / "weights.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    _, state, _ = read_run(tmp_path / "half")
    assert state["steps"].item() == 70_001
    assert state["first.weight"].dtype == torch.float32
    torch.testing.assert_close(state["first.weight"], method.network.first.weight.data, rtol=5e-4, atol=1e-6)


def test_weights_are_stored_in_the_safe_format(tmp_path: Path) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    with safe_open(tmp_path / "weights.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["optical"])["bands"] == list(BANDS)
        assert json.loads(file.metadata()["radar"])["unit"] == "dB"


def test_others_may_read_the_weights_as_they_may_the_config(tmp_path: Path) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    modes = [(tmp_path / name).stat().st_mode for name in ("weights.safetensors", "config.yaml")]
    assert modes[0] == modes[1]


def test_card_and_metrics_are_written_where_given(tmp_path: Path) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "weights.safetensors"]
    save_run(tmp_path, config=tiny_config(), method=tiny_method(), card="# α\n", metrics={"psnr": 28.5})
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == "# α\n"
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"psnr": 28.5}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half of it")
        raise OSError("no space left")

    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="no space left"):
        write_atomically(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"cannot write the run .*file \(Not a directory\), choose another folder"
    ):
        save_run(tmp_path / "file", config=tiny_config(), method=tiny_method())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run folder, it needs config\.yaml and weights\.safetensors"):
        read_run(tmp_path)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"weights\.safetensors is damaged"):
        read_run(tmp_path)


def test_weights_without_value_ranges_are_refused(tmp_path: Path) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    metadata = {"optical": json.dumps(asdict(SENTINEL2)), "mean_spectrum": "null"}
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors", metadata)
    with pytest.raises(InputError, match="lacks 'radar' in its metadata, make it with `pellucid import`"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optical": "7"}, "metadata of .*'optical' is 7"),
        ({"optical": "{}"}, "metadata of .*key 'optical.bands' is missing"),
        ({"radar": "{"}, "is damaged"),
        ({"mean_spectrum": '{"a": 1}'}, "metadata of .*'mean_spectrum' is "),
        ({"autoencoders": '["x"]'}, "metadata of .*'autoencoders' is "),
        ({"text": "3"}, "metadata of .*'text' is 3"),
    ],
)
def test_odd_metadata_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    save_run(tmp_path, config=tiny_config(), method=tiny_method())
    path = tmp_path / "weights.safetensors"
    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {**metadata, **changes})
    with pytest.raises(InputError, match=message):
        read_metadata(tmp_path)


def test_slices_are_enlarged_by_the_model_of_the_factor_or_else_by_the_largest() -> None:
    assert [find_upscaler(factor) for factor in (2, 4, None)] == ["sr3_ct_x2", "sr3_ct_x4", "sr3_ct_x4"]
    with pytest.raises(InputError, match=r"enlarges slices 3 times .*sr3_ct_x2 \(2 times\), sr3_ct_x4"):
        find_upscaler(3)
