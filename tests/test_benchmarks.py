import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from benchmarks import distil_guides, distil_looks, full_tile, generative, gpu, networks, scene, training
from benchmarks.card import Bench
from benchmarks.plain import plain
from rich.table import Table
from torch import nn

from pellucid.build.method import build_method, load
from pellucid.config import Config, load_config
from pellucid.data.batch import Batch
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.ranges import SENTINEL1, SENTINEL2, SLICE
from pellucid.data.raster import OpticalRaster
from pellucid.data.resample import reduce
from pellucid.data.schema import parse
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.ground import Ground
from pellucid.metrics import psnr
from pellucid.networks import cross_attention, glf_cr, sr3_unet
from pellucid.train.data import build_training_data

CONFIGS = Path(__file__).parents[1] / "configs"

SMALL = [
    glf_cr.build(glf_cr.Config(width=16, growth=16, num_blocks=2, num_layers=3, num_heads=4, window=4)),
    cross_attention.build(cross_attention.Config(width=8)),
]


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("side", [8, 48])
def test_plain_formulation_computes_the_same(network: nn.Module, side: int) -> None:
    torch.manual_seed(0)
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: golden.weight(name, shapes[name]) for name in shapes})
    degraded, sar = torch.rand(2, 13, side, side), torch.rand(2, 2, side, side)
    with torch.no_grad():
        expected = plain(network.eval(), side)(degraded, sar)
        torch.testing.assert_close(network(degraded, sar), expected, rtol=1e-4, atol=1e-5)


def test_every_variant_of_a_network_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "random_network", lambda name: SMALL[name == "cross_attention"].eval())
    monkeypatch.setattr(networks, "_memory_of_child", lambda *_: 10.0)
    results = networks.measure("glf_cr", size=32, threads=1, repeats=1)
    assert tuple(results) == networks.VARIANTS
    assert results[networks.PLAIN].psnr_db == pytest.approx(networks.TRUTH_DB, abs=0.2)
    assert results[networks.FP32].deviation < 1e-4 < results[networks.BF16].deviation < 0.1
    table = Table()
    for _ in range(8):
        table.add_column()
    networks.add_rows(table, "glf_cr", results)
    assert table.row_count == 3


def test_networks_are_measured_on_any_device_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "NETWORKS", ("glf_cr", "cross_attention"))
    monkeypatch.setattr(Bench, "wait", lambda _: None)
    bench = Bench(seconds=60, tiles=1, size=32, small=True, output=tmp_path / "gpu.json")
    monkeypatch.setattr(bench, "milliseconds", lambda run, **_: float(run() is not None))
    bench.part("broken", partial(list[int]().index, 0))
    monkeypatch.setattr(gpu.Subject, "compiled", lambda self: None)
    gpu.measure_all(bench)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["notes"][0] == "broken: failed, ValueError: 0 is not in list"
    assert [(row["network"], row["precision"], row["variant"]) for row in found["rows"][:4]] == [
        ("glf_cr", "bf16", "plain"),
        ("glf_cr", "bf16", "ours"),
        ("cross_attention", "bf16", "plain"),
        ("cross_attention", "bf16", "ours"),
    ]
    assert all(row.deviation < 1e-4 for row in bench.rows if row.precision == "fp32")
    assert any(row.precision == "fp32" for row in bench.rows)
    bench.deadline = 0
    assert not bench.part("late", lambda: None)
    assert bench.notes[-1].startswith("late: left out")


def test_speed_of_a_machine_is_reported_by_size_and_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = {"read": 1.0, "(COG)": 1.0, "network": 5.0, "(blend)": 1.0}
    assert scene.share_of_files({**phases, "all": 6.0, "CPU": 7.0, "MiB": 900.0}) == 0.25

    def restored(folder: Path, model: str, threads: int) -> dict[str, float]:
        assert (folder / "s2.tif").exists()
        megapixels = int(folder.name.removesuffix("px")) ** 2 / 1e6
        return {**phases, "all": 3 * megapixels, "CPU": 4 * megapixels, "MiB": 1000 + megapixels}

    commands: list[list[str]] = []
    monkeypatch.setattr(scene, "restore_in_child", restored)
    monkeypatch.setattr(scene, "_seconds", lambda command: float(len(commands.append(command) or commands)))
    patches = [(np.ones((13, 256, 256), np.uint16), np.ones((2, 256, 256), np.float32))]
    found = {
        "start-up": {"python": 0.1},
        "sizes": scene.measure_sizes(tmp_path, patches, [256, 512], "ground", 1),
        "workers": scene.measure_workers(tmp_path, patches, 256, "ground"),
    }
    assert found["sizes"][256] == pytest.approx(
        {"seconds": 3, "processor": 4, "MiB": 1000, "files": 0.25}, rel=1e-3
    )
    assert [command[-1] for command in commands] == ["1", "2"]
    assert "| 512 px | 3.00 | 4.00 | 1000 MiB | 25% |" in scene.report(found)
    assert "+0% processor time per megapixel, +0% memory" in scene.report(found)


def test_loader_and_network_of_a_training_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(CONFIGS / "uncrtaints_tiny.yaml")
    data = build_training_data(config)
    clock = iter(range(100))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))
    assert training.load_seconds(config, data, 0, steps=4) == 0.25
    assert training.step_seconds(config, data, torch.device("cpu"), steps=2) == 0.5


def test_more_steps_and_more_samples_are_measured_beside_the_baselines(tmp_path: Path) -> None:
    method = Generative(
        sr3_unet.build(sr3_unet.Config(width=8, multipliers=(1, 2), num_blocks=1, groups=4)).eval(),
        GenerativeConfig(path={"num_steps": 20}, prediction="velocity", scale=4, steps=1, residual=12.0),
        optical=SLICE,
        radar=SENTINEL1.select(()),
        losses={},
    )
    target = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(target, dtype=torch.bool)
    images = [Batch(degraded=reduce(target, 4), target=target, valid=valid, key=("slice",))]
    wanted = generative.variants(method, (1, 2), reference=3)
    assert [(v.sampling.steps, v.sampling.eta, v.samples) for v in wanted] == [
        (1, 0, 1),
        (2, 0, 1),
        (10, 1, 4),
        (3, 1, 1),
    ]
    results = [
        *generative.baselines(images, method),
        *(generative.measure("tiny", method, variant, images, half=False) for variant in wanted),
    ]
    assert [result.calls for result in results] == [0, 1, 2, 40, 3]
    assert results[0].psnr_db == pytest.approx(psnr(images[0].enlarged(), target).item(), rel=1e-5)
    assert generative.table(results, "").row_count == 5
    generative.write_csv(results, tmp_path / "steps.csv")
    generative.plot(results, tmp_path / "steps.png")
    assert len((tmp_path / "steps.csv").read_text().splitlines()) == 6
    assert (tmp_path / "steps.png").stat().st_size > 5000


def test_failures_are_provoked_and_counted() -> None:
    words = [sys.executable, "-m", "benchmarks.failures", "kills", "--tries", "1", "--commands", "upscale"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert "| kills | upscale | 1 | 1 equal |" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_a_made_up_tile_is_a_product_with_radar_on_its_grid(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    patches = [
        (random.integers(1, 9000, (13, 256, 256)).astype(np.uint16), np.full((2, 256, 256), -9, np.float32))
    ]
    product = full_tile.write_tile(tmp_path, patches, (300, 300), "jp2")
    with OpticalRaster(product, SENTINEL2.bands) as optical, RadarRaster(tmp_path / "s1.tif") as radar:
        assert optical.grid.matches(radar.grid)
        assert (optical.grid.height, optical.grid.width) == (300, 300)
        mosaic = optical.read_array([2])[0]
    first = patches[0][0][1]
    turned = [first[::up, ::left] for up in (1, -1) for left in (1, -1)]
    assert any((mosaic[:256, :256] == each).all() for each in turned)
    assert full_tile.size_of(tmp_path) > 300 * 300


def test_a_smaller_network_of_the_guides_learns_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distil_guides, "CROP", 32)
    monkeypatch.setattr(distil_guides, "BATCH", 2)
    monkeypatch.setattr(distil_guides, "REPORT", 10)
    network = {"name": "ground", "features": 4, "widths": [8, 16], "clear_widths": [8, 8], "detail": 4}
    network |= {"refine": 0}
    synthetic = {"name": "synthetic", "num_scenes": 2, "size": 48}
    values = {"method": {"name": "ground"}, "network": network, "data": {"train": [synthetic]}}
    config = parse(Config, values, where="config")
    teacher = build_method(config)
    assert isinstance(teacher, Ground)
    last = distil_guides.distil(config, teacher, tmp_path / "run", widths=(8, 8), detail=2, steps=60)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    first = float(lines[0].partition(": ")[2].partition("%")[0]) / 100
    assert last < 0.5 * first
    found = load(tmp_path / "run", device="cpu")
    assert isinstance(found, Ground)
    assert found.network.guides.detail is not None
    assert found.network.guides.detail.out_channels == 2
    for name, value in teacher.network.clearness.state_dict().items():
        torch.testing.assert_close(found.network.clearness.state_dict()[name], value, rtol=1e-3, atol=1e-6)


def test_smaller_networks_learn_to_judge_and_to_refine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"BATCH": 2, "REPORT": 5, "SAVE": 20}.items():
        monkeypatch.setattr(distil_looks, name, value)
    network = {"name": "ground", "features": 4, "widths": [8, 8], "clear_widths": [12, 12], "detail": 2}
    network |= {"refine": 8, "refine_widths": [12, 12]}
    synthetic = {"name": "synthetic", "num_scenes": 2, "size": 48}
    values = {"method": {"name": "ground"}, "network": network, "data": {"train": [synthetic], "tile": 32}}
    config = parse(Config, values, where="config")
    teacher = build_method(config)
    assert isinstance(teacher, Ground)
    sizes = {"clear_widths": [8, 8], "refine_widths": [8, 8]}
    last = distil_looks.distil(config, teacher, tmp_path / "run", sizes, steps=40)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("is missed")]
    first = {name: float(share) / 100 for share, name in re.findall(r"([\d.]+)% of (\w+)", lines[0])}
    assert first.keys() == last.keys() == {"clear", "refine"}
    assert all(last[name] < 0.7 * first[name] for name in last)
    found = load(tmp_path / "run", device="cpu")
    assert isinstance(found, Ground)
    assert found.network.refine.widen.in_channels == 8
    assert found.network.clearness.of_bands.out_features == 8
    for name, value in teacher.network.guides.state_dict().items():
        torch.testing.assert_close(found.network.guides.state_dict()[name], value, rtol=1e-3, atol=1e-6)
