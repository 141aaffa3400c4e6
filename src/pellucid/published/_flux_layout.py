"""The weights of Flux-style checkpoints, as black-forest-labs/flux names them, and as diffusers does.

The published transformer keeps query, key and value (and, in its single blocks, the first half of the MLP)
in one matrix, where diffusers has one each; the two modulations of its last layer come in the other order.
The published autoencoder attends by 1 x 1 convolutions, and numbers the decoder's levels from the outermost.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from pellucid.published._rename import Rule, count, from_published, layer

# Of the published autoencoder's latents; not in its checkpoints. black-forest-labs/flux, util.py
PUBLISHED_SCALE, PUBLISHED_SHIFT = 0.3611, 0.1159
# What the published pipeline tells the network.
PUBLISHED_GUIDANCE = 2.5


def flux_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `flux.Config` that a published transformer's shapes tell.

    Raises:
        KeyError: if a tensor that tells a size is missing.
    """
    width, channels = weights["img_in.weight"].shape
    head = len(weights["double_blocks.0.img_attn.norm.query_norm.scale"])
    return {
        "latent_channels": channels // 4,  # a token is 2 x 2 pixels
        "sar_channels": weights["txt_in.weight"].shape[1] // 4,
        "width": width,
        "num_heads": width // head,
        "num_double": count(weights, "double_blocks.{}.img_mod.lin.weight"),
        "num_single": count(weights, "single_blocks.{}.modulation.lin.weight"),
        "guidance": PUBLISHED_GUIDANCE if "guidance_in.in_layer.weight" in weights else None,
    }


def flux_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published transformer's weights as `flux.FluxNet` names them; see `from_published`."""
    return from_published(weights, flux_rules(**flux_sizes(weights)))


def flux_rules(*, num_double: int, num_single: int, guidance: float | None, **_: object) -> list[Rule]:
    """Return the rules of a transformer; its further sizes make no difference."""
    rules = [
        *layer("img_in", "transformer.x_embedder"),
        *layer("txt_in", "sar_in"),
        *layer("vec_proj", "vec_proj"),
        *layer("final_layer.linear", "transformer.proj_out"),
        *layer("final_layer.adaLN_modulation.1", "transformer.norm_out.linear", is_swapped=True),
    ]
    for index in (0, 2, 4):
        rules += layer(f"vec_cnn.{index}", f"vec_cnn.{index}")
    for name in ("time_in", "guidance_in") if guidance is not None else ("time_in",):
        rules += layer(f"{name}.in_layer", f"{name}.linear_1")
        rules += layer(f"{name}.out_layer", f"{name}.linear_2")
    for index in range(num_double):
        rules += _double_block(f"double_blocks.{index}", f"transformer.transformer_blocks.{index}")
    for index in range(num_single):
        rules += _single_block(f"single_blocks.{index}", f"transformer.single_transformer_blocks.{index}")
    return rules


def _double_block(published: str, ours: str) -> Iterator[Rule]:
    streams = [
        ("img", "norm1", "ff", "to_{}", "to_out.0", "norm"),
        ("txt", "norm1_context", "ff_context", "add_{}_proj", "to_add_out", "norm_added"),
    ]
    for stream, modulation, mlp, part, out, norm in streams:
        attention = f"{published}.{stream}_attn"
        yield from layer(f"{published}.{stream}_mod.lin", f"{ours}.{modulation}.linear")
        split = [f"{ours}.attn.{part.format(name)}" for name in "qkv"]
        yield from layer(f"{attention}.qkv", *split, shares=(1, 1, 1))
        yield from _norms(f"{attention}.norm", f"{ours}.attn.{norm}")
        yield from layer(f"{attention}.proj", f"{ours}.attn.{out}")
        yield from layer(f"{published}.{stream}_mlp.0", f"{ours}.{mlp}.net.0.proj")
        yield from layer(f"{published}.{stream}_mlp.2", f"{ours}.{mlp}.net.2")


def _single_block(published: str, ours: str) -> Iterator[Rule]:
    split = [f"{ours}.attn.to_q", f"{ours}.attn.to_k", f"{ours}.attn.to_v", f"{ours}.proj_mlp"]
    yield from layer(f"{published}.modulation.lin", f"{ours}.norm.linear")
    yield from layer(f"{published}.linear1", *split, shares=(1, 1, 1, 4))  # the MLP is four times as wide
    yield from layer(f"{published}.linear2", f"{ours}.proj_out")
    yield from _norms(f"{published}.norm", f"{ours}.attn.norm")


def _norms(published: str, ours: str) -> Iterator[Rule]:
    """Yield the rules of the norms of queries and keys."""
    yield Rule(f"{published}.query_norm.scale", (f"{ours}_q.weight",))
    yield Rule(f"{published}.key_norm.scale", (f"{ours}_k.weight",))


def autoencoder_sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of `autoencoder.Config` that a published autoencoder's shapes tell.

    Raises:
        KeyError: if a tensor that tells a size is missing.
    """
    width, bands = weights["encoder.conv_in.weight"].shape[:2]
    levels = range(count(weights, "encoder.down.{}.block.0.conv1.weight"))
    channels = [len(weights[f"encoder.down.{level}.block.0.conv1.weight"]) for level in levels]
    return {
        "bands": bands,
        "width": width,
        "multipliers": tuple(count // width for count in channels),
        "num_blocks": count(weights, "encoder.down.0.block.{}.conv1.weight"),
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
    }


def autoencoder_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published autoencoder's weights as `autoencoder.Autoencoder` names them.

    Scale and shift of the latents, which its checkpoints lack, are those that the published code sets, and
    its logarithmic error stays 0.
    """
    sizes = autoencoder_sizes(weights)
    one = weights["decoder.conv_in.weight"].new_ones(sizes["latent_channels"])
    constants = {
        "scale": PUBLISHED_SCALE * one,
        "shift": PUBLISHED_SHIFT * one,
        "error_logvar": one.new_zeros(()),
    }
    return constants | from_published(weights, autoencoder_rules(**sizes))


def autoencoder_rules(
    *, width: int, multipliers: tuple[int, ...], num_blocks: int, **_: object
) -> list[Rule]:
    """Return the rules of an autoencoder; its further sizes make no difference."""
    channels = [width * multiplier for multiplier in multipliers]
    ways = [
        ("encoder", "down", "downsample", [width, *channels], num_blocks),
        ("decoder", "up", "upsample", [channels[-1], *reversed(channels)], num_blocks + 1),
    ]
    rules: list[Rule] = []
    for part, way, step, widths, blocks in ways:
        for level in range(len(channels)):  # from the image for the encoder, from the latents for the decoder
            number = level if way == "down" else len(channels) - 1 - level
            published, ours = f"{part}.{way}.{number}", f"{part}.{way}_blocks.{level}"
            for block in range(blocks):
                is_wider = block == 0 and widths[level] != widths[level + 1]
                rules += _res_block(f"{published}.block.{block}", f"{ours}.resnets.{block}", is_wider)
            if level < len(channels) - 1:
                rules += layer(f"{published}.{step}.conv", f"{ours}.{step}rs.0.conv")
        rules += _middle(f"{part}.mid", f"{part}.mid_block")
        rules += layer(f"{part}.norm_out", f"{part}.conv_norm_out")
        for name in ("conv_in", "conv_out"):
            rules += layer(f"{part}.{name}", f"{part}.{name}")
    return rules


def _middle(published: str, ours: str) -> Iterator[Rule]:
    for number in (0, 1):
        yield from _res_block(f"{published}.block_{number + 1}", f"{ours}.resnets.{number}", is_wider=False)
    attention = f"{ours}.attentions.0"
    yield from layer(f"{published}.attn_1.norm", f"{attention}.group_norm")
    for theirs, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        yield Rule(
            f"{published}.attn_1.{theirs}.weight", (f"{attention}.{name}.weight",), is_convolution=True
        )
        yield Rule(f"{published}.attn_1.{theirs}.bias", (f"{attention}.{name}.bias",))


def _res_block(published: str, ours: str, is_wider: bool) -> Iterator[Rule]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield from layer(f"{published}.{name}", f"{ours}.{name}")
    if is_wider:
        yield from layer(f"{published}.nin_shortcut", f"{ours}.conv_shortcut")
