import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.apply.golden_tile import TILES, make_tiles, read_tiles, tiles_for
from pellucid.build.method import build_method, load
from pellucid.build.run import save_run
from pellucid.config import load_config
from pellucid.data.run_folder import CONFIG, find_run, shipped_runs
from pellucid.errors import InputError
from pellucid.evaluation.verify import GOLDEN, TOLERANCES, _apply, devices_here, renew, verify
from pellucid.methods.ground import Ground

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A tiny run, not trained, with its golden values."""
    config = load_config(CONFIGS / "cross_attention_tiny.yaml")
    save_run(tmp_path / "run", config=config, method=build_method(config))
    assert renew(str(tmp_path / "run")) == tmp_path / "run" / GOLDEN
    return tmp_path / "run"


def failed(run: Path) -> list[str]:
    return [
        f"{each.check} {each.where}".strip()
        for each in verify(str(run), devices=["cpu"])
        if not each.is_passed
    ]


@pytest.mark.parametrize("name", shipped_runs())
def test_a_model_that_ships_gives_its_golden_values(name: str) -> None:
    verdicts = verify(name, devices=["cpu"])
    assert [each for each in verdicts if not each.is_passed] == []
    assert len(verdicts) == 5


def test_a_run_fails_where_its_weights_or_its_values_changed(run: Path) -> None:
    assert failed(run) == []
    method = load(run, device="cpu")
    with torch.no_grad():
        method.network.decoder.final_conv.bias.add_(3e-4)  # type: ignore[union-attr,operator]
    save_run(run, config=load_config(run / CONFIG), method=method)
    (verdict,) = [each for each in verify(str(run), devices=["cpu"]) if not each.is_passed]
    assert "of other weights" in verdict.found
    assert f"pellucid verify {run} --renew" in verdict.found
    golden = json.loads((run / GOLDEN).read_text())
    renew(str(run))
    fresh = json.loads((run / GOLDEN).read_text())
    (run / GOLDEN).write_text(json.dumps({**golden, "sha256": fresh["sha256"]}))
    assert "golden tiles cpu fp32" in failed(run)
    (verdict,) = [
        each for each in verify(str(run), devices=["cpu"]) if each.where == "cpu fp32" and not each.is_passed
    ]
    assert "expected are sums in another order" in verdict.found


def as_tf32(values: torch.Tensor) -> torch.Tensor:
    """Return float32 rounded to the 10 bits of the significand that TF32 keeps."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("name", ["cross_attention", "sar_color"])
def test_tf32_lies_within_the_tolerance_of_gpus(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    convolve, limit = torch.conv2d, TOLERANCES["cuda", "fp32"]

    def rounded(image: torch.Tensor, weight: torch.Tensor, *more: Any, **options: Any) -> torch.Tensor:
        return convolve(as_tf32(image), as_tf32(weight), *more, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", rounded)
    folder = find_run(name)
    found, golden = (
        _apply(load(folder, device="cpu"), "cpu", "fp32"),
        json.loads((folder / GOLDEN).read_text()),
    )
    assert found
    pairs = zip(found["values"].values(), golden["values"].values(), strict=True)
    apart = torch.cat([torch.tensor(a) - torch.tensor(b) for a, b in pairs])
    rms, largest = float(apart.square().mean().sqrt()), float(apart.abs().max())
    assert TOLERANCES["cpu", "fp32"].rms < rms < limit.rms / 2
    assert largest < limit.largest / 2


def test_a_flipped_bit_fails_before_anything_is_computed(run: Path) -> None:
    path = run / "weights.safetensors"
    values = bytearray(path.read_bytes())
    values[-1] ^= 1
    path.write_bytes(values)
    assert failed(run) == ["weights"]
    with pytest.raises(InputError, match="does not fit the SHA-256"):
        renew(str(run))


def test_a_run_without_golden_values_is_told_how_to_make_them(run: Path) -> None:
    (run / GOLDEN).unlink()
    assert failed(run) == ["golden tiles"]
    (run / GOLDEN).write_text("{}")
    with pytest.raises(InputError, match="make it anew with --renew"):
        verify(str(run), devices=["cpu"])


def test_values_that_are_no_numbers_fail(run: Path) -> None:
    golden = json.loads((run / GOLDEN).read_text())
    golden["values"]["image"][0] = float("nan")
    (run / GOLDEN).write_text(json.dumps(golden))
    assert "golden tiles cpu fp32" in failed(run)


def test_a_model_that_makes_no_images_has_nothing_to_renew() -> None:
    method = build_method(load_config(CONFIGS / "cross_attention_tiny.yaml"))
    assert len(tiles_for(method)) == 2
    method.task = "embed"  # type: ignore[misc]
    assert tiles_for(method) == []


def test_the_tiles_are_those_of_the_generator(tmp_path: Path) -> None:
    make_tiles(tmp_path / "golden" / "tiles.npz")
    with np.load(tmp_path / "golden" / "tiles.npz") as made, np.load(TILES) as shipped:
        assert sorted(made.files) == sorted(shipped.files)
        for name in made.files:
            apart = np.abs(made[name].astype(int) - shipped[name].astype(int))
            assert (apart > 1).mean() < 1e-3, name
    assert TILES.stat().st_size < 300_000
    assert all(image.min() >= 0 and image.max() <= 1 for image in read_tiles().values())


def test_the_first_place_is_half_clear_and_the_second_has_no_older_date() -> None:
    ground = load("ground", device="cpu")
    assert isinstance(ground, Ground)
    first, second = tiles_for(ground)
    cloud = read_tiles()["cloud"]
    assert 0.2 < (cloud[0] < 0.05).float().mean() < 0.8
    assert cloud[1].min() > 0.5
    assert first.older is not None
    assert first.older.isfinite().all()
    assert second.older is not None
    assert second.older.isnan().all()
    assert first.cloud is None


def test_the_devices_are_those_of_the_machine() -> None:
    assert devices_here("auto")[0] == "cpu"
    assert devices_here("cuda:1") == ["cuda:1"]
