"""Checkpoints of cross-attention cloud removal; our network has the published names."""

from pellucid.networks import cross_attention
from pellucid.published._format import Entry, Format, Weights, regression
from pellucid.published._hints import Hints


def _sizes(weights: Weights, _hints: Hints) -> Entry:
    width, optical_bands = weights["optical_encoder.E1.conv1.weight"].shape[:2]
    radar_bands = weights["sar_encoder.E1.conv1.weight"].shape[1]
    return {"optical_bands": optical_bands, "radar_bands": radar_bands, "width": width}


FORMAT = Format(cross_attention, _sizes, method=regression)
