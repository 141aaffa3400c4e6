"""Checkpoints of GLF-CR; our network has the published names."""

from math import isqrt

from pellucid.networks import glf_cr
from pellucid.published._format import Entry, Format, Weights, regression
from pellucid.published._hints import Hints
from pellucid.published._rename import count


def _sizes(weights: Weights, _hints: Hints) -> Entry:
    width, optical_channels = weights["SFENet1.weight"].shape[:2]
    growth = len(weights["RDBs.0.convs.0.conv.0.weight"])
    table, num_heads = weights["RDBs.0.convs.0.attn.relative_position_bias_table"].shape
    return {
        "optical_bands": optical_channels // 4,  # 2 x 2 pixels are channels
        "radar_bands": weights["SFENet1_SAR.weight"].shape[1] // 4,
        "width": width,
        "growth": growth,
        "num_blocks": count(weights, "RDBs.{}.LFF.weight"),
        "num_layers": count(weights, "RDBs.0.convs.{}.conv.0.weight"),
        "num_heads": num_heads,
        "window": (isqrt(table) + 1) // 2,  # (2 window - 1)^2 relative positions
        "mlp_ratio": weights["RDBs.0.convs.0.mlp.fc1.weight"].shape[0] // growth,
        "kernel": isqrt(weights["DF.0.fac_warp.3.0.weight"].shape[0] // width),
        "head_width": weights["UPNet.2.weight"].shape[1],
    }


FORMAT = Format(glf_cr, _sizes, method=regression, computed=("attn_mask", "relative_position_index"))
