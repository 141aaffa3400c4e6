"""Checkpoints of CR_RF's rectified flow: a Flux with weights as black-forest-labs/flux names them.

They keep query, key and value (in single blocks also half of the MLP) in one matrix, where diffusers has one
each; the two modulations of the last layer come in the other order.
"""

from collections.abc import Iterator

from pellucid.build.parts import read_autoencoder
from pellucid.networks import flux
from pellucid.published._format import Entry, Format, Weights
from pellucid.published._hints import Hints
from pellucid.published._rename import Rule, count, layer

# Guidance scale and sampling steps of the published pipeline.
GUIDANCE, STEPS = 2.5, 30


def sizes(weights: Weights, hints: Hints) -> Entry:
    """Return the arguments of `flux.Config`; KeyError names a missing tensor."""
    width, channels = weights["img_in.weight"].shape
    head = len(weights["double_blocks.0.img_attn.norm.query_norm.scale"])
    return {
        "latent_channels": channels // 4,  # a token is 2 x 2 pixels
        "sar_channels": weights["txt_in.weight"].shape[1] // 4,
        "cloud_channels": weights["vec_proj.weight"].shape[1],
        "width": width,
        "num_heads": width // head,
        "num_double": count(weights, "double_blocks.{}.img_mod.lin.weight"),
        "num_single": count(weights, "single_blocks.{}.modulation.lin.weight"),
        "guidance": GUIDANCE if "guidance_in.in_layer.weight" in weights else None,
        "axes": hints.axes,
    }


def rules(*, num_double: int, num_single: int, guidance: float | None, **_: object) -> list[Rule]:
    """Return where each tensor of a transformer of these sizes goes."""
    found = [
        *layer("img_in", "transformer.x_embedder"),
        *layer("txt_in", "sar_in"),
        *layer("vec_proj", "vec_proj"),
        *layer("final_layer.linear", "transformer.proj_out"),
        *layer("final_layer.adaLN_modulation.1", "transformer.norm_out.linear", is_swapped=True),
    ]
    for index in (0, 2, 4):
        found += layer(f"vec_cnn.{index}", f"vec_cnn.{index}")
    for name in ("time_in", "guidance_in") if guidance is not None else ("time_in",):
        found += layer(f"{name}.in_layer", f"{name}.linear_1")
        found += layer(f"{name}.out_layer", f"{name}.linear_2")
    for index in range(num_double):
        found += _double_block(f"double_blocks.{index}", f"transformer.transformer_blocks.{index}")
    for index in range(num_single):
        found += _single_block(f"single_blocks.{index}", f"transformer.single_transformer_blocks.{index}")
    return found


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
    split = [*(f"{ours}.attn.to_{name}" for name in "qkv"), f"{ours}.proj_mlp"]
    yield from layer(f"{published}.modulation.lin", f"{ours}.norm.linear")
    yield from layer(f"{published}.linear1", *split, shares=(1, 1, 1, 4))  # the MLP is four times as wide
    yield from layer(f"{published}.linear2", f"{ours}.proj_out")
    yield from _norms(f"{published}.norm", f"{ours}.attn.norm")


def _norms(published: str, ours: str) -> Iterator[Rule]:
    yield Rule(f"{published}.query_norm.scale", (f"{ours}_q.weight",))
    yield Rule(f"{published}.key_norm.scale", (f"{ours}_k.weight",))


def _method(_network: Entry, _rest: Weights, hints: Hints) -> Entry:
    if not hints.autoencoder or not hints.sar_autoencoder:
        raise ValueError(
            "a flow needs the autoencoders of its images and its radar; import these (cr-rf-autoencoder) and "
            "name their runs with --autoencoder and --sar-autoencoder"
        )
    optical = read_autoencoder(hints.autoencoder).optical.bands
    radar = read_autoencoder(hints.sar_autoencoder).radar.bands
    if not optical:
        raise ValueError(f"{hints.autoencoder} is no autoencoder of optical images, name one that is")
    if not radar:
        raise ValueError(f"{hints.sar_autoencoder} is no autoencoder of radar, name one that is")
    return {
        "name": "generative",
        "optical": optical,
        "radar": radar,
        "space": {"optical": hints.autoencoder, "sar": hints.sar_autoencoder},
        "path": {"name": "rectified_flow", "shift": "auto"},
        "prediction": "velocity",
        "steps": STEPS,
    }


FORMAT = Format(flux, sizes, rules=rules, method=_method, hints=("axes", "autoencoder", "sar_autoencoder"))
