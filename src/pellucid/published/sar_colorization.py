"""Checkpoints of the SAR colorization: a U-Net, an autoencoder and a text encoder in one file.

Its Stable Diffusion, hkproj/pytorch-stable-diffusion, numbers the layers in the order in which they run, and
keeps query, key and value of self-attention in one matrix, where diffusers and transformers have one each.
"""

from collections.abc import Iterator
from typing import Any

from pellucid.build.run import AUTOENCODERS, TEXT
from pellucid.data.ranges import PICTURE, SENTINEL1
from pellucid.networks import autoencoder, text_encoder, text_unet
from pellucid.networks.autoencoder import LATENT_SCALE
from pellucid.published._format import Entry, Format, Layout, Weights
from pellucid.published._hints import Hints
from pellucid.published._rename import Rule, count, find_levels, layer

# What the run's config calls the autoencoder and the text encoder that lie in the run itself.
INSIDE = "of the checkpoint"
# Stable Diffusion's path, as published for the colorizer, and how that samples.
PATH = {
    "name": "variance_preserving",
    "schedule": "quad",
    "num_steps": 1000,
    "linear_start": 8.5e-4,
    "linear_end": 0.012,
    "tells": "step",
    "spacing": "leading",
}
SAMPLING = {"steps": 50, "eta": 1.0, "guidance": 7.5, "strength": 0.8, "dropped": "prompt"}
# Of the group norms of the published autoencoder, where Stable Diffusion has 1e-6.
NORM_EPS = 1e-5
# Of the autoencoder's latents; not in the checkpoints. The published code has no error.
CONSTANTS = {"scale": LATENT_SCALE, "shift": 0.0, "error_logvar": 0.0}
# Channels of a head of the published text encoder, as of every CLIP; its shapes do not show them.
TEXT_HEAD = 64


def text_encoder_sizes(weights: Weights, hints: Hints) -> Entry:
    """Return the arguments of `text_encoder.Config`; KeyError names a missing tensor."""
    vocab_size, width = weights["embedding.token_embedding.weight"].shape
    return {
        "vocab_size": vocab_size,
        "width": width,
        "num_layers": count(weights, "layers.{}.linear_1.weight"),
        "num_heads": hints.num_heads or width // TEXT_HEAD,
        "length": len(weights["embedding.position_embedding"]),
    }


def text_encoder_rules(*, num_layers: int, **_: object) -> list[Rule]:
    """Return where each tensor of a text encoder of these sizes goes."""
    rules = [
        Rule("embedding.token_embedding.weight", ("text.embeddings.token_embedding.weight",)),
        Rule("embedding.position_embedding", ("text.embeddings.position_embedding.weight",)),
    ]
    for index in range(num_layers):
        published, ours = f"layers.{index}", f"text.encoder.layers.{index}"
        split = [f"{ours}.self_attn.{name}_proj" for name in "qkv"]
        rules += layer(f"{published}.attention.in_proj", *split, shares=(1, 1, 1))
        rules += layer(f"{published}.attention.out_proj", f"{ours}.self_attn.out_proj")
        for number in (1, 2):
            rules += layer(f"{published}.layernorm_{number}", f"{ours}.layer_norm{number}")
            rules += layer(f"{published}.linear_{number}", f"{ours}.mlp.fc{number}")
    return [*rules, *layer("layernorm", "text.final_layer_norm")]


def unet_sizes(weights: Weights, _hints: Hints) -> Entry:
    """Return the arguments of `text_unet.Config`; KeyError names a missing tensor."""
    width, inputs = weights["unet.encoders.0.0.weight"].shape[:2]
    latents = len(weights["final.conv.weight"])
    levels = find_levels(weights, "unet.encoders.{}.0.weight", "unet.encoders.{}.0.conv_feature.weight")
    outputs = [len(weights[f"unet.encoders.{level[0]}.0.conv_feature.weight"]) for level in levels]
    attention = "unet.encoders.{}.1.groupnorm.weight"
    depths = [depth for depth, level in enumerate(levels) if attention.format(level[0]) in weights]
    return {
        "latent_channels": latents,
        "sar_channels": inputs - latents,
        "model_channels": width,
        "channel_mult": tuple(channels // width for channels in outputs),
        "attention_resolutions": tuple(2**depth for depth in reversed(depths)),
        "num_res_blocks": len(levels[0]),
        "context_dim": weights["unet.bottleneck.1.attention_2.k_proj.weight"].shape[1],
    }


def unet_rules(**sizes: Any) -> list[Rule]:
    """Return where each tensor of a U-Net of these sizes goes."""
    config = text_unet.Config(**sizes)
    return [
        *layer("unet.encoders.0.0", "unet.conv_in"),
        *layer("time_embedding.linear_1", "unet.time_embedding.linear_1"),
        *layer("time_embedding.linear_2", "unet.time_embedding.linear_2"),
        *_unet_res_block("unet.bottleneck.0", "unet.mid_block.resnets.0", is_wider=False),
        *_unet_attention("unet.bottleneck.1", "unet.mid_block.attentions.0"),
        *_unet_res_block("unet.bottleneck.2", "unet.mid_block.resnets.1", is_wider=False),
        *layer("final.groupnorm", "unet.conv_norm_out"),
        *layer("final.conv", "unet.conv_out"),
        *_unet_down(config),
        *_unet_up(config),
    ]


def _unet_down(config: text_unet.Config) -> Iterator[Rule]:
    number, before = 1, config.model_channels
    for level, after in enumerate(config.channels):
        ours = f"unet.down_blocks.{level}"
        for block in range(config.num_res_blocks):
            published = f"unet.encoders.{number}"
            yield from _unet_res_block(f"{published}.0", f"{ours}.resnets.{block}", is_wider=before != after)
            if config.attends[level]:
                yield from _unet_attention(f"{published}.1", f"{ours}.attentions.{block}")
            number, before = number + 1, after
        if level < len(config.channels) - 1:
            yield from layer(f"unet.encoders.{number}.0", f"{ours}.downsamplers.0.conv")
            number += 1


def _unet_up(config: text_unet.Config) -> Iterator[Rule]:
    channels, num_blocks = config.channels, config.num_res_blocks + 1
    # What the way down left at each of its layers, the last first.
    kept = [config.model_channels, *(after for after in channels for _ in range(num_blocks))][:-1]
    number, before = 0, channels[-1]
    for index, after in enumerate(reversed(channels)):
        ours, is_attending = f"unet.up_blocks.{index}", config.attends[-1 - index]
        for block in range(num_blocks):
            published, is_wider = f"unet.decoders.{number}", before + kept.pop() != after
            yield from _unet_res_block(f"{published}.0", f"{ours}.resnets.{block}", is_wider=is_wider)
            if is_attending:
                yield from _unet_attention(f"{published}.1", f"{ours}.attentions.{block}")
            number, before = number + 1, after
        if index < len(channels) - 1:
            step = f"unet.decoders.{number - 1}.{2 if is_attending else 1}.conv"
            yield from layer(step, f"{ours}.upsamplers.0.conv")


def _unet_res_block(published: str, ours: str, *, is_wider: bool) -> Iterator[Rule]:
    yield from layer(f"{published}.linear_time", f"{ours}.time_emb_proj")
    for number, part in enumerate(("feature", "merged"), start=1):
        yield from layer(f"{published}.groupnorm_{part}", f"{ours}.norm{number}")
        yield from layer(f"{published}.conv_{part}", f"{ours}.conv{number}")
    if is_wider:
        yield from layer(f"{published}.residual_layer", f"{ours}.conv_shortcut")


def _unet_attention(published: str, ours: str) -> Iterator[Rule]:
    block = f"{ours}.transformer_blocks.0"
    names = {
        "groupnorm": f"{ours}.norm",
        "conv_input": f"{ours}.proj_in",
        **{f"layernorm_{number}": f"{block}.norm{number}" for number in (1, 2, 3)},
        **{f"attention_{number}.out_proj": f"{block}.attn{number}.to_out.0" for number in (1, 2)},
        "linear_geglu_1": f"{block}.ff.net.0.proj",
        "linear_geglu_2": f"{block}.ff.net.2",
        "conv_output": f"{ours}.proj_out",
    }
    for theirs, name in names.items():
        yield from layer(f"{published}.{theirs}", name)
    split = tuple(f"{block}.attn1.to_{name}.weight" for name in "qkv")
    yield Rule(f"{published}.attention_1.in_proj.weight", split, shares=(1, 1, 1))
    for name in "qkv":
        yield Rule(f"{published}.attention_2.{name}_proj.weight", (f"{block}.attn2.to_{name}.weight",))


def autoencoder_sizes(weights: Weights, _hints: Hints) -> Entry:
    """Return the arguments of `autoencoder.Config`; KeyError names a missing tensor."""
    width, bands = weights["encoder.0.weight"].shape[:2]
    levels = find_levels(weights, "encoder.{}.weight", "encoder.{}.conv_1.weight")
    channels = [len(weights[f"encoder.{level[0]}.conv_1.weight"]) for level in levels]
    return {
        "bands": bands,
        "width": width,
        "multipliers": tuple(each // width for each in channels),
        "num_blocks": len(levels[0]),
        "latent_channels": len(weights["decoder.0.weight"]),
        "norm_eps": NORM_EPS,
        "quant_conv": True,
    }


def autoencoder_rules(*, width: int, multipliers: tuple[int, ...], num_blocks: int, **_: Any) -> list[Rule]:
    """Return where each tensor of an autoencoder of these sizes goes."""
    channels = [width * multiplier for multiplier in multipliers]
    return [*_encoder(width, channels, num_blocks), *_decoder(channels, num_blocks)]


def _encoder(width: int, channels: list[int], num_blocks: int) -> Iterator[Rule]:
    yield from layer("encoder.0", "encoder.conv_in")
    number, before = 1, width
    for level, after in enumerate(channels):
        ours = f"encoder.down_blocks.{level}"
        for block in range(num_blocks):
            yield from _res_block(f"encoder.{number}", f"{ours}.resnets.{block}", is_wider=before != after)
            number, before = number + 1, after
        if level < len(channels) - 1:
            yield from layer(f"encoder.{number}", f"{ours}.downsamplers.0.conv")
            number += 1
    yield from _middle("encoder", number)
    yield from layer(f"encoder.{number + 3}", "encoder.conv_norm_out")
    yield from layer(f"encoder.{number + 5}", "encoder.conv_out")  # after an activation
    yield from layer(f"encoder.{number + 6}", "quant_conv")


def _decoder(channels: list[int], num_blocks: int) -> Iterator[Rule]:
    yield from layer("decoder.0", "post_quant_conv")
    yield from layer("decoder.1", "decoder.conv_in")
    yield from _middle("decoder", 2)
    number, before = 5, channels[-1]
    for index, after in enumerate(reversed(channels)):
        ours = f"decoder.up_blocks.{index}"
        for block in range(num_blocks + 1):
            yield from _res_block(f"decoder.{number}", f"{ours}.resnets.{block}", is_wider=before != after)
            number, before = number + 1, after
        if index < len(channels) - 1:
            yield from layer(f"decoder.{number + 1}", f"{ours}.upsamplers.0.conv")  # after an enlargement
            number += 2
    yield from layer(f"decoder.{number}", "decoder.conv_norm_out")
    yield from layer(f"decoder.{number + 2}", "decoder.conv_out")  # after an activation


def _middle(part: str, number: int) -> Iterator[Rule]:
    ours = f"{part}.mid_block"
    yield from _res_block(f"{part}.{number}", f"{ours}.resnets.0", is_wider=False)
    published, attention = f"{part}.{number + 1}", f"{ours}.attentions.0"
    split = [f"{attention}.to_{name}" for name in "qkv"]
    yield from layer(f"{published}.groupnorm", f"{attention}.group_norm")
    yield from layer(f"{published}.attention.in_proj", *split, shares=(1, 1, 1))
    yield from layer(f"{published}.attention.out_proj", f"{attention}.to_out.0")
    yield from _res_block(f"{part}.{number + 2}", f"{ours}.resnets.1", is_wider=False)


def _res_block(published: str, ours: str, *, is_wider: bool) -> Iterator[Rule]:
    for number in (1, 2):
        yield from layer(f"{published}.groupnorm_{number}", f"{ours}.norm{number}")
        yield from layer(f"{published}.conv_{number}", f"{ours}.conv{number}")
    if is_wider:
        yield from layer(f"{published}.residual_layer", f"{ours}.conv_shortcut")


def _method(network: Entry, _rest: Weights, _hints: Hints) -> Entry:
    if not network["sar_channels"]:
        raise ValueError(
            "its U-Net has no radar input, as Stable Diffusion's own; start a training from that in the "
            "format of diffusers (train.init_from)"
        )
    return {
        "name": "generative",
        "optical": PICTURE.bands,
        "radar": SENTINEL1.bands[:1],
        "space": {"optical": INSIDE, "sar": INSIDE},
        "text": INSIDE,
        "path": PATH,
        "prediction": "noise",
        **SAMPLING,
    }


PICTURES = Layout(autoencoder, autoencoder_sizes, "vae_", autoencoder_rules, CONSTANTS)
TEXTS = Layout(text_encoder, text_encoder_sizes, "clip.", text_encoder_rules)
FORMAT = Format(
    text_unet,
    unet_sizes,
    "diffusion.",
    unet_rules,
    method=_method,
    unused=("input_proj.",),
    hints=("num_heads", "tokenizer"),
    parts={f"{AUTOENCODERS}optical.": PICTURES, TEXT: TEXTS},
)
