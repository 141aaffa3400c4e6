import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any, get_args

import golden
import pytest
import torch
from checkpoints import save
from safetensors.torch import save_file
from torch import Tensor, nn

from pellucid.build.method import load
from pellucid.config import load_config
from pellucid.data.batch import Condition
from pellucid.errors import InputError
from pellucid.generative.path import Schedule, beta_schedule
from pellucid.methods.generative import GenerativeConfig
from pellucid.networks import cross_attention, glf_cr, sr3_unet
from pellucid.published._formats import FORMATS, Hints
from pellucid.published._read import import_run, read_checkpoint

GLF_CR = glf_cr.Config(
    optical_bands=4, radar_bands=1, width=8, growth=4, num_blocks=2, num_layers=3, num_heads=2, window=4,
    mlp_ratio=3, kernel=3, head_width=6,
)  # fmt: skip
CROSS_ATTENTION = cross_attention.Config(optical_bands=5, radar_bands=3, width=8)
SR3 = sr3_unet.Config(
    width=8, multipliers=(1, 3, 2), num_blocks=1, attention=(128, 64), groups=4, num_heads=2,
    use_cross_attention=False,
)  # fmt: skip
SR3_HINTS = Hints(groups=4, num_heads=2)


def glf_cr_weights() -> dict[str, Tensor]:
    """A state dict as published: with the buffers that depend on the crop size."""
    torch.manual_seed(0)
    computed = {
        "RDBs.0.convs.1.attn_mask": torch.zeros(4, 16, 16),
        "RDBs.0.convs.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64),
    }
    return {**glf_cr.build(GLF_CR).state_dict(), **computed}


def cross_attention_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return cross_attention.build(CROSS_ATTENTION).state_dict()


def sr3_weights(config: sr3_unet.Config = SR3, betas: Tensor | None = None) -> dict[str, Tensor]:
    """A state dict as published: the network's behind a prefix, and the schedule's buffers."""
    torch.manual_seed(0)
    network = {f"denoise_fn.{name}": weight for name, weight in sr3_unet.build(config).state_dict().items()}
    return {**network, **schedule(beta_schedule("linear", 20) if betas is None else betas)}


def schedule(betas: Tensor) -> dict[str, Tensor]:
    """The twelve buffers, step by step."""
    rows, before = [], 1.0
    for beta in betas.tolist():
        now = before * (1 - beta)
        variance = beta * (1 - before) / (1 - now)
        rows.append(
            {
                "betas": beta,
                "alphas_cumprod": now,
                "alphas_cumprod_prev": before,
                "sqrt_alphas_cumprod": now**0.5,
                "sqrt_one_minus_alphas_cumprod": (1 - now) ** 0.5,
                "log_one_minus_alphas_cumprod": math.log(1 - now),
                "sqrt_recip_alphas_cumprod": now**-0.5,
                "sqrt_recipm1_alphas_cumprod": (1 / now - 1) ** 0.5,
                "posterior_variance": variance,
                "posterior_log_variance_clipped": math.log(max(variance, 1e-20)),
                "posterior_mean_coef1": beta * before**0.5 / (1 - now),
                "posterior_mean_coef2": (1 - before) * (1 - beta) ** 0.5 / (1 - now),
            }
        )
        before = now
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in rows[0]}


def test_every_size_of_glf_cr_is_read_off_the_weights_and_its_buffers_are_skipped(tmp_path: Path) -> None:
    weights = glf_cr_weights()
    found = read_checkpoint(save(tmp_path / "1_net_CR.pth", {"network": weights}), "glf-cr")
    assert found.network.pop("name") == "glf_cr"
    assert glf_cr.Config(**found.network) == GLF_CR
    network = glf_cr.build(GLF_CR)
    network.load_state_dict(found.weights)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("holder", ["network", "model_state_dict", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_found_wherever_training_scripts_put_them(
    tmp_path: Path, holder: str | None, prefix: str
) -> None:
    weights = cross_attention_weights()
    wrapped = {prefix + name: value for name, value in weights.items()}
    content = wrapped if holder is None else {holder: wrapped, "epoch": 3}
    found = read_checkpoint(save(tmp_path / "net.pt", content), "cross-attention")
    assert found.network.pop("name") == "cross_attention"
    assert cross_attention.Config(**found.network) == CROSS_ATTENTION
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


def test_half_precision_safetensors_become_single_precision(tmp_path: Path) -> None:
    weights = {name: value.half().contiguous() for name, value in cross_attention_weights().items()}
    save_file(weights, tmp_path / "net.safetensors")
    state = read_checkpoint(tmp_path / "net.safetensors", "cross-attention").weights
    assert all(torch.equal(state[name], weights[name].float()) for name in weights)


def test_training_checkpoint_with_its_command_line_options_is_read(tmp_path: Path) -> None:
    content = {
        "model_state_dict": glf_cr_weights(),
        "opts": argparse.Namespace(lr=1e-4),
        "optimizer": {"state": {}},
    }
    found = read_checkpoint(save(tmp_path / "checkpoint_epoch_1.pth", content), "glf-cr")
    assert found.network["optical_bands"] == 4


NO_GLF_CR = "is no glf-cr checkpoint, it lacks 'SFENet1.weight'; is it cross-attention or cr-rf"


class Marker:
    """Anything that is no tensor, in place of what could run code."""


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (Marker(), "holds more than tensors or is damaged, and code in it is never run"),
        ([1, 2], "holds no state dict, neither bare nor under network, model_state_dict, state_dict"),
        ({"epoch": 3}, "holds no state dict"),
        ({}, "holds no state dict"),
        (nn.Conv2d(1, 1, 1).state_dict(), NO_GLF_CR),
        (cross_attention_weights(), NO_GLF_CR),
        (without(glf_cr_weights(), "GFF.1.bias"), "is no glf-cr checkpoint, it lacks GFF.1.bias"),
        ({**glf_cr_weights(), "more": torch.zeros(1)}, "it has more, which that network lacks"),
        (
            {**glf_cr_weights(), "SFENet2.weight": torch.zeros(8, 9, 3, 3)},
            r"SFENet2.weight has shape \(8, 9, 3, 3\) instead of \(8, 8, 3, 3\)",
        ),
        ({**glf_cr_weights(), "SFENet1.weight": torch.zeros(())}, "is no glf-cr checkpoint"),
        ({**glf_cr_weights(), "GFF.1.bias": torch.tensor([torch.nan])}, "NaN or infinity in GFF.1.bias"),
    ],
)  # fmt: skip
def test_what_is_no_glf_cr_checkpoint_is_refused_in_one_sentence(
    tmp_path: Path, content: Any, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_checkpoint(save(tmp_path / "net.pth", content), "glf-cr")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00", b"PK\x03\x04 cut short"])
def test_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="damaged") as caught:
        read_checkpoint(tmp_path / name, "glf-cr")
    assert "\n" not in str(caught.value)


def test_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.pth", cross_attention_weights())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(path, "cross-attention")


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is no file, check the path"):
        read_checkpoint(tmp_path / name, "glf-cr")


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net.ckpt is no checkpoint by its name, give a .pth, .pt or"):
        read_checkpoint(tmp_path / "net.ckpt", "glf-cr")


def test_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="unknown checkpoint format 'rdn', choose one of glf-cr, cross-attention, "
    ):
        read_checkpoint(tmp_path / "net.pth", "rdn")
    assert set(FORMATS) == {
        "glf-cr",
        "cross-attention",
        "cr-rf",
        "cr-rf-autoencoder",
        "sr3",
        "sar-colorization",
    }


@pytest.mark.parametrize("crosses", [False, True])
def test_every_size_of_sr3_is_read_off_the_weights(tmp_path: Path, crosses: bool) -> None:
    config = dataclasses.replace(SR3, use_cross_attention=crosses)
    weights = sr3_weights(config)
    found = read_checkpoint(save(tmp_path / "I1000_E1_gen.pth", weights), "sr3", SR3_HINTS)
    assert found.network.pop("name") == "sr3_unet"
    assert sr3_unet.Config(**found.network) == config
    assert found.method == {
        "name": "generative", "optical": ("gray",), "scale": 8, "prediction": "noise", "steps": 20,
        "path": {
            "name": "variance_preserving", "schedule": "linear", "num_steps": 20,
            "linear_start": 1e-6, "linear_end": 1e-2,
        },
    }  # fmt: skip
    network = sr3_unet.build(config)
    network.load_state_dict(found.weights)
    state = network.state_dict()
    assert all(torch.equal(state[name], weights[f"denoise_fn.{name}"]) for name in state)


@pytest.mark.parametrize(
    ("width", "multipliers", "groups"), [(64, (1, 1, 2, 2, 4, 4), 16), (64, (1, 2), 32), (32, (1, 2), 32)]
)
def test_groups_that_shapes_cannot_tell_are_the_published_ones(
    width: int, multipliers: tuple[int, ...], groups: int
) -> None:
    config = sr3_unet.Config(width=width, multipliers=multipliers, attention=(), num_blocks=1)
    with torch.device("meta"):
        weights = sr3_unet.build(config).state_dict()
    sizes = FORMATS["sr3"].sizes(weights, Hints())
    assert sizes["groups"] == groups
    assert sizes["num_heads"] == 4
    assert FORMATS["sr3"].sizes(weights, Hints(groups=8, num_heads=1)) == {
        **sizes,
        "groups": 8,
        "num_heads": 1,
    }


@pytest.mark.parametrize("name", [name for name in get_args(Schedule) if name != "jsd"])
def test_every_published_schedule_is_told_by_its_numbers(
    golden_folder: Path, tmp_path: Path, name: str
) -> None:
    betas = golden.arrays(golden_folder, "sr3_beta_schedules_T50")[name]
    found = read_checkpoint(save(tmp_path / "gen.pth", sr3_weights(betas=betas)), "sr3", SR3_HINTS)
    path = found.method["path"]
    assert path["schedule"] == name or betas.unique().numel() == 1
    assert path["num_steps"] == 50
    ends = {key: value for key, value in path.items() if key.startswith("linear")}
    torch.testing.assert_close(beta_schedule(path["schedule"], 50, **ends), betas)


def test_imported_run_gives_the_published_output(golden_folder: Path, tmp_path: Path) -> None:
    known = golden.arrays(golden_folder, "sr3_unet_small_base")
    weights = {
        f"denoise_fn.{key}": weight
        for key, weight in golden.state_dict(golden_folder, "sr3_unet_small_base").items()
    }
    save_file({**weights, **schedule(beta_schedule("cosine", 100))}, tmp_path / "gen.safetensors")
    run = tmp_path / "run"
    import_run("sr3", tmp_path / "gen.safetensors", run, hints=Hints(scale=4, groups=8))
    method = load(run, device="cpu")
    with torch.inference_mode():
        condition = Condition(degraded=known["x"][:, :1])
        out = method.network.eval()(known["x"][:, 1:], known["noise_level"][:, 0], condition)
    torch.testing.assert_close(out, known["out"], **golden.TOLERANCE)
    options = load_config(run / "config.yaml").method
    assert isinstance(options, GenerativeConfig)
    assert (options.scale, options.path.schedule, options.path.num_steps) == (4, "cosine", 100)
    assert options.prediction == "noise"
    assert method.scale == 4
    assert method.optical.bands == ("gray",)


@pytest.mark.parametrize(
    ("changes", "hints", "sentence"),
    [
        (
            {"denoise_fn.downs.0.weight": None},
            SR3_HINTS,
            "it lacks 'denoise_fn.downs.0.weight'; is it glf-cr or",
        ),
        (
            {"denoise_fn.mid.1.res_block.block1.block.0.bias": None},
            SR3_HINTS,
            "it lacks denoise_fn.mid.1.res_bl",
        ),
        ({"denoise_fn.more": torch.zeros(1)}, SR3_HINTS, "it has denoise_fn.more, which that network lacks"),
        ({"betas": None}, SR3_HINTS, "it lacks betas, the noise schedule; save the whole model's state dict"),
        (
            {"betas": torch.tensor([0.1, 0.3, 0.2])},
            SR3_HINTS,
            r"its 3 betas, from 0.1 to 0.2, follow none of the",
        ),
        ({"betas": torch.zeros(())}, SR3_HINTS, "it lacks betas"),
        ({"alphas_cumprod": torch.ones(20)}, SR3_HINTS, "its alphas_cumprod contradict its betas"),
        ({"posterior_variance": torch.zeros(21)}, SR3_HINTS, "its posterior_variance contradict its betas"),
        ({"gammas": torch.zeros(20)}, SR3_HINTS, "it has gammas, which is neither a weight nor part of"),
        ({}, Hints(groups=3), "its 8 channels do not divide into 3 groups, give --groups"),
        ({}, Hints(groups=4, num_heads=3), "num_heads is 3, must divide"),
    ],
)
def test_what_is_no_sr3_checkpoint_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, Tensor | None], hints: Hints, sentence: str
) -> None:
    content = {name: tensor for name, tensor in {**sr3_weights(), **changes}.items() if tensor is not None}
    with pytest.raises(InputError, match=sentence) as caught:
        read_checkpoint(save(tmp_path / "gen.pth", content), "sr3", hints)
    assert "\n" not in str(caught.value)


def test_hint_without_a_meaning_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.pth", cross_attention_weights())
    with pytest.raises(InputError, match="cross-attention checkpoints need no scale and no groups"):
        read_checkpoint(path, "cross-attention", Hints(scale=4, groups=8))
