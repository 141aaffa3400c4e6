import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save
from safetensors.torch import save_file
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.networks import cross_attention, glf_cr
from pellucid.published import known_formats
from pellucid.published._format import Format
from pellucid.published._hints import Hints
from pellucid.published._read import find_format, read_checkpoint

GLF_CR = glf_cr.Config(
    optical_bands=4, radar_bands=1, width=8, growth=4, num_blocks=2, num_layers=3, num_heads=2, window=4,
    mlp_ratio=3, kernel=3, head_width=6,
)  # fmt: skip
CROSS_ATTENTION = cross_attention.Config(optical_bands=5, radar_bands=3, width=8)


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


def test_every_size_of_glf_cr_is_read_off_the_weights_and_its_buffers_are_skipped(tmp_path: Path) -> None:
    weights = glf_cr_weights()
    found = read_checkpoint(save(tmp_path / "1_net_CR.pth", {"network": weights}), "glf-cr")
    assert found.network.pop("name") == "glf_cr"
    assert glf_cr.Config(**found.network) == GLF_CR
    network = glf_cr.build(GLF_CR)
    network.load_state_dict(found.weights)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("holder", ["network", "model_state_dict", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "generator.unet."])
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


NO_GLF_CR = "is no glf-cr checkpoint, it lacks SFENet1.weight; no other known format fits it"


class Marker:
    """Anything that is no tensor, in place of what could run code."""


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (Marker(), "holds more than tensors or is damaged, and code in it is never run"),
        ([1, 2], "holds no state dict, neither bare nor under ema, .*network"),
        ({"epoch": 3}, "holds no state dict"),
        ({}, "holds no state dict"),
        (nn.Conv2d(1, 1, 1).state_dict(), NO_GLF_CR),
        (cross_attention_weights(), "it lacks SFENet1.weight; it fits cross-attention, name that"),
        (without(glf_cr_weights(), "GFF.1.bias"), "checkpoint, its glf_cr weights: GFF.1.bias is missing"),
        ({**glf_cr_weights(), "more": torch.zeros(1)}, "more is no weight of that network"),
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
@pytest.mark.parametrize("content", [b"\x08\x00\x00\x00", b"PK\x03\x04 cut short"])
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
    with pytest.raises(InputError, match=r"net.h5 is no checkpoint by its name, give a .pth, .pt, .ckpt"):
        read_checkpoint(tmp_path / "net.h5", "glf-cr")


def test_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="unknown checkpoint format 'rdn'; known are cr-rf, cr-rf-autoencoder, cross-att"
    ):
        read_checkpoint(tmp_path / "net.pth", "rdn")


def test_every_file_of_the_shelf_is_a_format() -> None:
    assert known_formats() == (
        "cr-rf",
        "cr-rf-autoencoder",
        "cross-attention",
        "glf-cr",
        "sar-colorization",
        "sr3",
    )
    assert all(isinstance(find_format(name), Format) for name in known_formats())


def test_hint_without_a_meaning_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.pth", cross_attention_weights())
    with pytest.raises(InputError, match="cross-attention checkpoints need no scale and no groups"):
        read_checkpoint(path, "cross-attention", Hints(scale=4, groups=8))
