from pathlib import Path

import pytest
import torch
from torch import nn

from pellucid.apply.golden_tile import tiles_for
from pellucid.apply.options import ApplyOptions
from pellucid.build.method import build_method, load
from pellucid.build.run import save_run
from pellucid.config import load_config
from pellucid.evaluation.cost import _measure as measure_here
from pellucid.evaluation.cost import count_parameters, measure_cost

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = load_config(CONFIGS / "cross_attention_tiny.yaml")
    save_run(folder, config=config, method=build_method(config))
    return str(folder)


def test_the_cost_of_a_patch_is_measured_in_a_process_of_its_own(run: str) -> None:
    method = load(run, device="cpu")
    patch = tiles_for(method)[0].corner(32)
    cost = measure_cost(run, patch, ApplyOptions(device="cpu", precision="fp32"), threads=1)
    assert cost is not None
    assert cost.pixels == 32 * 32
    assert cost.num_parameters == sum(p.numel() for p in method.network.parameters())
    assert cost.seconds_per_megapixel > 0
    assert cost.peak_mib >= 0
    assert (cost.device, cost.precision) == ("CPU, 1 threads", "fp32")
    here = measure_here(run, patch, ApplyOptions(device="cpu", precision="fp32"), torch.get_num_threads())
    assert here.gflops_per_megapixel == cost.gflops_per_megapixel > 0


def test_operations_are_those_of_the_layers(run: str) -> None:
    method = load(run, device="cpu")
    counted = 0.0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv2d)
        counted += 2 * layer.weight[0].numel() * out.numel()

    patch = tiles_for(method)[0].corner(32)
    for layer in method.network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    method.restore(patch)
    cost = measure_here(run, patch, ApplyOptions(device="cpu", precision="fp32"), torch.get_num_threads())
    total = cost.gflops_per_megapixel * 1e9 * cost.pixels / 1e6
    assert counted <= total < 2 * counted  # attention comes on top


def test_parameters_of_all_networks_count() -> None:
    method = load("cloud_flow", device="cpu")
    own = sum(parameter.numel() for parameter in method.network.parameters())
    assert count_parameters(method) > own
