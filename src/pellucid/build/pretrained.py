"""Published networks in folders of diffusers and transformers: our config, and its weights in float32.

A folder holds a whole model or one part of it, with weights as safetensors.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pellucid.build.weights_file import match, read_state_dict
from pellucid.data.text_file import parse_json, read_text
from pellucid.errors import InputError
from pellucid.networks import autoencoder, text_encoder, text_unet
from pellucid.networks.autoencoder import LATENT_SCALE

T = TypeVar("T")

# Where each part lies in a model folder of diffusers.
UNET, AUTOENCODER, TEXT_ENCODER = "unet", "vae", "text_encoder"
CONFIG = "config.json"
# Entries of a U-Net's config that may differ from ours: they change no result, or `_unet_config` reads them.
_UNET_FREE = {
    "sample_size",
    "in_channels",
    "out_channels",
    "attention_head_dim",
    "upcast_attention",
    "dropout",
}
# Layers of an autoencoder's attention as diffusers named them before 0.15, and since.
_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# In early configs of transformers, a wrong id of the end of a text, which stands for the last id.
_LAST_ID = 2


def is_pretrained(folder: Path) -> bool:
    """Return whether a folder is one of diffusers or transformers, of a whole model or of a part."""
    return any((folder / part / CONFIG).is_file() for part in (".", UNET, AUTOENCODER, TEXT_ENCODER))


def read_unet(folder: Path) -> tuple[text_unet.Config, dict[str, Tensor]]:
    """Return a U-Net of Stable Diffusion 1 or 2, whose input is noised latents without radar.

    `text_unet.widen_input` adds input channels for the radar.
    """
    folder = _part(folder, UNET)
    values = _read_config(folder, "UNet2DConditionModel")
    weights = {f"unet.{name}": value for name, value in _read_weights(folder).items()}
    failure = f"the U-Net in {folder} is none of Stable Diffusion 1 or 2"
    config, network = _build_on_meta(text_unet, _unet_config, values, failure)
    ours: Any = network.unet
    for name, value in values.items():
        found = tuple(value) if isinstance(value, list) else value
        if name in ours.config and name not in _UNET_FREE and found != ours.config[name]:
            raise InputError(
                f"the U-Net in {folder} has {name} = {value}, only {ours.config[name]} is known; "
                "give a model of Stable Diffusion 1 or 2"
            )
    return config, _matched(weights, network, folder)


def read_autoencoder(folder: Path) -> tuple[autoencoder.Config, dict[str, Tensor]]:
    """Return an autoencoder of Stable Diffusion, with the scale of its latents."""
    folder = _part(folder, AUTOENCODER)
    values = _read_config(folder, "AutoencoderKL")
    weights = {_renamed(name): value for name, value in _read_weights(folder).items()}
    failure = f"the autoencoder in {folder} is none of Stable Diffusion"
    config, network = _build_on_meta(autoencoder, _autoencoder_config, values, failure)
    one = torch.ones(config.latent_channels)
    constants = {
        "scale": values.get("scaling_factor", LATENT_SCALE) * one,
        "shift": (values.get("shift_factor") or 0.0) * one,
        "error_logvar": torch.tensor(autoencoder.ERROR_LOGVAR),
    }
    return config, _matched(constants | weights, network, folder)


def read_text_encoder(folder: Path) -> tuple[text_encoder.Config, dict[str, Tensor]]:
    """Return the text encoder of a CLIP, without its image encoder."""
    folder = _part(folder, TEXT_ENCODER)
    values = _read_config(folder, "CLIPModel", "CLIPTextModel", "CLIPTextModelWithProjection")
    failure = f"the text encoder in {folder} is no CLIP that is known"
    sizes = values.get("text_config", values)
    config, network = _build_on_meta(text_encoder, _text_config, sizes, failure)
    kept = ("embeddings.token_", "embeddings.position_embedding", "encoder.", "final_layer_norm.")
    weights = {
        f"text.{short}": value
        for name, value in _read_weights(folder).items()
        if (short := name.removeprefix("text_model.")).startswith(kept)
    }
    return config, _matched(weights, network, folder)


def _unet_config(values: Mapping[str, Any]) -> text_unet.Config:
    channels, heads = values["block_out_channels"], values["attention_head_dim"]
    return text_unet.Config(
        latent_channels=values["in_channels"],
        sar_channels=0,
        model_channels=channels[0],
        channel_mult=_multiples(channels),
        attention_resolutions=tuple(
            2**level for level, name in enumerate(values["down_block_types"]) if name.startswith("CrossAttn")
        ),
        num_res_blocks=values["layers_per_block"],
        num_heads=heads if isinstance(heads, int) else tuple(heads),
        context_dim=values["cross_attention_dim"],
        groups=values.get("norm_num_groups", 32),
        linear_projection=values.get("use_linear_projection", False),
    )


def _autoencoder_config(values: Mapping[str, Any]) -> autoencoder.Config:
    channels = values["block_out_channels"]
    return autoencoder.Config(
        bands=values["in_channels"],
        width=channels[0],
        multipliers=_multiples(channels),
        num_blocks=values["layers_per_block"],
        latent_channels=values["latent_channels"],
        groups=values.get("norm_num_groups", 32),
        attention=values.get("mid_block_add_attention", True),
        quant_conv=values.get("use_quant_conv", True),
    )


def _text_config(given: Mapping[str, Any]) -> text_encoder.Config:
    from transformers import CLIPTextConfig

    values = {**CLIPTextConfig().to_dict(), **given}
    end, vocab_size = values["eos_token_id"], values["vocab_size"]
    return text_encoder.Config(
        vocab_size=vocab_size,
        width=values["hidden_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=values["num_attention_heads"],
        length=values["max_position_embeddings"],
        end_id=vocab_size - 1 if end == _LAST_ID else end,
        activation=values["hidden_act"],
    )


def _multiples(channels: list[int]) -> tuple[int, ...]:
    if any(count % channels[0] for count in channels):
        raise ValueError(f"its levels have {channels} channels, which are no multiples of the first")
    return tuple(count // channels[0] for count in channels)


def _part(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _read_config(folder: Path, *kinds: str) -> dict[str, Any]:
    """Return the content of config.json, of a model of one of these kinds."""
    path = folder / CONFIG
    if not path.exists():
        raise InputError(f"{folder} holds no {CONFIG}, name the folder of a downloaded model")
    try:
        values = parse_json(read_text(path, "the config"))
        found = {values.get("_class_name"), *(values.get("architectures") or ())}
    except InputError:
        raise
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"cannot read {path} ({error}), download the model again") from error
    if not found & set(kinds):
        named = " and ".join(sorted(filter(None, found))) or "nothing that is named"
        raise InputError(f"{folder} holds {named}, needed is {' or '.join(kinds)}")
    return values


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a folder, float32; half precision where there is no other."""
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    # A second suffix names another version: fp16, non_ema.
    chosen = [path for path in files if len(path.suffixes) == 1] or [p for p in files if ".fp16" in p.name]
    if not chosen:
        raise InputError(f"{folder} holds no weights as .safetensors, download or save the model with these")
    return {name: value.float() for path in chosen for name, value in read_state_dict(path).items()}


def _renamed(name: str) -> str:
    head, _, kind = name.rpartition(".")
    before, _, last = head.rpartition(".")
    return f"{before}.{_RENAMED[last]}.{kind}" if ".attentions." in head and last in _RENAMED else name


def _build_on_meta(
    module: Any, translate: Callable[[Mapping[str, Any]], T], values: Mapping[str, Any], failure: str
) -> tuple[T, nn.Module]:
    """Return our config of theirs and its network without weights; an error begins with `failure`."""
    try:
        config = translate(values)
        with torch.device("meta"):
            return config, module.build(config)
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{failure} ({error})") from error


def _matched(weights: dict[str, Tensor], network: nn.Module, folder: Path) -> dict[str, Tensor]:
    way_out = "download the model again, or take one of Stable Diffusion 1 or 2"
    return match(weights, network, f"the weights in {folder}", way_out=way_out)
