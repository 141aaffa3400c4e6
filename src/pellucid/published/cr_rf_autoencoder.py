"""Checkpoints of the autoencoders under CR_RF's flow, as black-forest-labs/flux names their weights.

The published autoencoder attends by 1 x 1 convolutions, and numbers the decoder's levels from the outermost.
"""

from collections.abc import Iterator

from pellucid.data.ranges import SENTINEL1
from pellucid.networks import autoencoder
from pellucid.published._format import Entry, Format, Weights, optical_names
from pellucid.published._hints import Hints
from pellucid.published._rename import Rule, count, layer

# Of the latents; not in the checkpoints. black-forest-labs/flux, util.py. The published code has no error.
CONSTANTS = {"scale": 0.3611, "shift": 0.1159, "error_logvar": 0.0}


def sizes(weights: Weights, _hints: Hints) -> Entry:
    """Return the arguments of `autoencoder.Config`; KeyError names a missing tensor."""
    width, bands = weights["encoder.conv_in.weight"].shape[:2]
    first = "encoder.down.{}.block.0.conv1.weight"
    channels = [len(weights[first.format(level)]) for level in range(count(weights, first))]
    return {
        "bands": bands,
        "width": width,
        "multipliers": tuple(each // width for each in channels),
        "num_blocks": count(weights, "encoder.down.0.block.{}.conv1.weight"),
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
    }


def rules(*, width: int, multipliers: tuple[int, ...], num_blocks: int, **_: object) -> list[Rule]:
    """Return where each tensor of an autoencoder of these sizes goes."""
    channels = [width * multiplier for multiplier in multipliers]
    ways = [
        ("encoder", "down", "downsample", [width, *channels], num_blocks),
        ("decoder", "up", "upsample", [channels[-1], *reversed(channels)], num_blocks + 1),
    ]
    found: list[Rule] = []
    for part, way, step, widths, blocks in ways:
        for level in range(len(channels)):  # from the image for the encoder, from the latents for the decoder
            number = level if way == "down" else len(channels) - 1 - level
            published, ours = f"{part}.{way}.{number}", f"{part}.{way}_blocks.{level}"
            for block in range(blocks):
                is_wider = block == 0 and widths[level] != widths[level + 1]
                found += _res_block(f"{published}.block.{block}", f"{ours}.resnets.{block}", is_wider)
            if level < len(channels) - 1:
                found += layer(f"{published}.{step}.conv", f"{ours}.{step}rs.0.conv")
        found += _middle(f"{part}.mid", f"{part}.mid_block")
        found += layer(f"{part}.norm_out", f"{part}.conv_norm_out")
        for name in ("conv_in", "conv_out"):
            found += layer(f"{part}.{name}", f"{part}.{name}")
    return found


def _middle(published: str, ours: str) -> Iterator[Rule]:
    for number in (0, 1):
        yield from _res_block(f"{published}.block_{number + 1}", f"{ours}.resnets.{number}", is_wider=False)
    attention = f"{ours}.attentions.0"
    yield from layer(f"{published}.attn_1.norm", f"{attention}.group_norm")
    for theirs, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0")):
        source, target = f"{published}.attn_1.{theirs}", f"{attention}.{name}"
        yield Rule(f"{source}.weight", (f"{target}.weight",), is_convolution=True)
        yield Rule(f"{source}.bias", (f"{target}.bias",))


def _res_block(published: str, ours: str, is_wider: bool) -> Iterator[Rule]:
    for name in ("norm1", "conv1", "norm2", "conv2"):
        yield from layer(f"{published}.{name}", f"{ours}.{name}")
    if is_wider:
        yield from layer(f"{published}.nin_shortcut", f"{ours}.conv_shortcut")


def _method(network: Entry, _rest: Weights, _hints: Hints) -> Entry:
    if network["bands"] == len(SENTINEL1.bands):
        return {"name": "autoencoding", "radar": SENTINEL1.bands}
    return {"name": "autoencoding", "optical": optical_names(network["bands"])}


FORMAT = Format(autoencoder, sizes, rules=rules, constants=CONSTANTS, method=_method)
