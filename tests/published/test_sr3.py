import dataclasses
import math
from pathlib import Path
from typing import get_args

import golden
import pytest
import torch
from checkpoints import save
from safetensors.torch import save_file
from torch import Tensor

from pellucid.build.method import load
from pellucid.config import load_config
from pellucid.data.batch import Condition
from pellucid.errors import InputError
from pellucid.generative.path import Schedule, beta_schedule
from pellucid.methods.generative import GenerativeConfig
from pellucid.networks import sr3_unet
from pellucid.published._hints import Hints
from pellucid.published._read import import_run, read_checkpoint
from pellucid.published.sr3 import FORMAT

SR3 = sr3_unet.Config(
    width=8, multipliers=(1, 3, 2), num_blocks=1, attention=(128, 64), groups=4, num_heads=2,
    use_cross_attention=False,
)  # fmt: skip
SR3_HINTS = Hints(groups=4, num_heads=2)


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
    sizes = FORMAT.sizes(weights, Hints())
    assert sizes["groups"] == groups
    assert sizes["num_heads"] == 4
    assert FORMAT.sizes(weights, Hints(groups=8, num_heads=1)) == {
        **sizes,
        "groups": 8,
        "num_heads": 1,
    }


@pytest.mark.parametrize("name", [name for name in get_args(Schedule) if name != "jsd"])
def test_every_published_schedule_is_recognised_by_its_numbers(
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
            "it lacks denoise_fn.downs.0.weight; no other known format fits it",
        ),
        (
            {"denoise_fn.mid.1.res_block.block1.block.0.bias": None},
            SR3_HINTS,
            "weights: mid.1.res_block.block1.block.0.bias is missing",
        ),
        ({"denoise_fn.more": torch.zeros(1)}, SR3_HINTS, "more is no weight of that network"),
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
