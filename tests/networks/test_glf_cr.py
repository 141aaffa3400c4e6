import dataclasses
from pathlib import Path

import golden
import pytest
import torch
from torch import Tensor

from pellucid.networks import glf_cr
from pellucid.networks.glf_cr import Config, GlfCrNet, WindowAttention, build
from pellucid.published._read import read_checkpoint

TINY = Config(
    optical_bands=4, radar_bands=1, width=8, growth=8, num_blocks=2, num_layers=2, num_heads=2, window=4,
    kernel=3, head_width=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def published(golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> GlfCrNet:
    """The whole network with the golden weights, by way of a checkpoint as the published code saves it."""
    path = tmp_path_factory.mktemp("published") / "CR_net.pth"
    torch.save({"network": golden.state_dict(golden_folder, "glfcr_crop32")}, path)
    found = read_checkpoint(path, "glf-cr")
    assert found.network.pop("name") == "glf_cr"
    network = build(Config(**found.network)).eval()
    network.load_state_dict(found.weights)
    return network.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def known(golden_folder: Path) -> dict[str, Tensor]:
    return golden.arrays(golden_folder, "glfcr_crop32")


def inputs(config: Config, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    batch, height, width = size
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(batch, config.optical_bands, height, width, generator=generator),
        torch.rand(batch, config.radar_bands, height, width, generator=generator),
    )


def test_network_equals_the_published_one(published: GlfCrNet, known: dict[str, Tensor]) -> None:
    torch.testing.assert_close(published(known["cloudy"], known["sar"]), known["out"], **golden.TOLERANCE)


def test_dense_block_equals_the_published_one(published: GlfCrNet, known: dict[str, Tensor]) -> None:
    optical, radar = published.RDBs[0](known["rdb_in_opt"], known["rdb_in_sar"])
    torch.testing.assert_close(optical, known["rdb0_opt"], **golden.TOLERANCE)
    torch.testing.assert_close(radar, known["rdb0_sar"], **golden.TOLERANCE)


def test_fusion_equals_the_published_one(published: GlfCrNet, known: dict[str, Tensor]) -> None:
    optical, radar = published.fuse(0, known["rdb_in_opt"], known["rdb_in_sar"])
    torch.testing.assert_close(optical, known["fuse0_opt"], **golden.TOLERANCE)
    torch.testing.assert_close(radar, known["fuse0_sar"], **golden.TOLERANCE)


@pytest.mark.parametrize("kind", ["masked", "unmasked"])
@pytest.mark.parametrize("at_once", [3, 16])
def test_window_attention_equals_the_published_one(
    golden_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at_once: int
) -> None:
    monkeypatch.setattr(glf_cr, "WINDOWS_AT_ONCE", at_once)
    known = golden.arrays(golden_folder, "glfcr_window_attention")
    attention = WindowAttention(48, 8, 8)
    prefix = "RDBs.0.convs.1.attn."  # the layer of the whole network that the goldens were made with
    shapes = {name: list(value.shape) for name, value in attention.state_dict().items()}
    attention.load_state_dict({name: golden.weight(prefix + name, shapes[name]) for name in shapes})
    mask = known["mask"][:, None] if kind == "masked" else None
    optical, radar = attention(known["x"], known["x_sar"], mask)
    torch.testing.assert_close(optical, known[f"{kind}_opt"], **golden.TOLERANCE)
    torch.testing.assert_close(radar, known[f"{kind}_sar"], **golden.TOLERANCE)


def test_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = build(Config())
    assert sum(weight.numel() for weight in network.parameters()) == 14_827_373


def test_state_dict_has_the_published_keys_and_shapes_less_computed_buffers(golden_folder: Path) -> None:
    with torch.device("meta"):
        ours = {name: weight.shape for name, weight in build(Config()).state_dict().items()}
    published = golden.state_dict(golden_folder, "glfcr_crop32")
    computed = ("attn_mask", "relative_position_index")
    assert ours == {name: weight.shape for name, weight in published.items() if not name.endswith(computed)}


@pytest.mark.parametrize("size", [(1, 8, 24), (2, 16, 8), (1, 24, 16)])
def test_any_size_that_the_stride_divides_is_restored(size: tuple[int, int, int]) -> None:
    network = build(TINY).eval()
    degraded, sar = inputs(TINY, size)
    assert network.stride == 8
    with torch.inference_mode():
        assert network(degraded, sar).shape == degraded.shape


def test_published_network_takes_twice_the_size_it_was_made_for(published: GlfCrNet) -> None:
    assert published.stride == 16
    with torch.inference_mode():
        assert published(*inputs(Config(), (1, 48, 80))).shape == (1, 13, 48, 80)


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    network = build(TINY).eval()
    degraded, sar = inputs(TINY, (3, 16, 24))
    with torch.inference_mode():
        alone = torch.cat([network(degraded[i : i + 1], sar[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(network(degraded, sar), alone)


def test_layout_and_gradient_mode_do_not_change_the_result() -> None:
    torch.manual_seed(0)
    network = build(TINY).eval()
    degraded, sar = inputs(TINY, (2, 16, 24))
    with torch.inference_mode():
        expected = network(degraded, sar)
        other = degraded.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(other, sar), expected)
    torch.testing.assert_close(network(degraded, sar), expected)


def test_gradients_reach_every_parameter_and_both_inputs() -> None:
    torch.manual_seed(0)
    network = build(dataclasses.replace(TINY, drop_path=0.0))
    degraded, sar = (image.requires_grad_() for image in inputs(TINY, (1, 16, 16)))
    network(degraded, sar).square().sum().backward()
    # The last block's radar output leads nowhere, as published.
    last = f"opt_distribute_1x1conv.{TINY.num_blocks - 1}."
    for name, weight in network.named_parameters():
        assert name.startswith(last) or (weight.grad is not None and weight.grad.any()), name
    assert degraded.grad is not None
    assert sar.grad is not None
    assert sar.grad.any()


def test_gradient_is_the_slope_of_the_loss() -> None:
    torch.manual_seed(0)
    network = build(dataclasses.replace(TINY, drop_path=0.0)).double()
    degraded, sar = (image.double() for image in inputs(TINY, (1, 16, 16)))
    start = {name: value.clone() for name, value in network.state_dict().items()}
    network(degraded, sar).square().mean().backward()
    grads = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    steps = {name: torch.randn_like(grad) for name, grad in grads.items()}
    slope = torch.stack([(grads[name] * steps[name]).sum() for name in grads]).sum()

    def moved(step: float) -> Tensor:
        network.load_state_dict({name: start[name] + step * steps.get(name, 0) for name in start})
        with torch.no_grad():
            return network(degraded, sar).square().mean()

    measured = (moved(1e-6) - moved(-1e-6)) / 2e-6
    torch.testing.assert_close(measured, slope, rtol=1e-4, atol=1e-8)


def test_dropped_paths_follow_the_seed_and_vanish_in_evaluation() -> None:
    network = build(dataclasses.replace(TINY, drop_path=0.9)).train()
    degraded, sar = inputs(TINY, (2, 16, 16))

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return network(degraded, sar).detach()

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))
    network.eval()
    assert torch.equal(run(0), run(1))


def test_drop_path_keeps_the_mean_and_drops_whole_samples() -> None:
    torch.manual_seed(0)
    drop = glf_cr.DropPath(0.25).train()
    out = drop(torch.ones(3, 4000, 2, 2))
    per_sample = out.transpose(0, 1).flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert per_sample.unique().tolist() == pytest.approx([0, 4 / 3])
    assert per_sample.mean().item() == pytest.approx(1, abs=0.05)


def test_half_precision_stays_close_and_answers_in_the_precision_of_the_input() -> None:
    torch.manual_seed(0)
    network = build(TINY).eval()
    degraded, sar = inputs(TINY, (1, 16, 16))
    with torch.inference_mode():
        expected = network(degraded, sar)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = network(degraded, sar)
        half = network.bfloat16()(degraded, sar)
    for out in (automatic, half):
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, expected, rtol=0, atol=0.02)
        assert not torch.equal(out, expected)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_heads": 3}, "num_heads is 3, must divide growth = 8"),
        ({"window": 5}, "window is 5 px, must be even"),
        ({"kernel": 4}, "kernel is 4 px, must be odd"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build(dataclasses.replace(TINY, **change))
