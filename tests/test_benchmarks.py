import golden
import pytest
import torch
from benchmarks import networks
from benchmarks.plain import plain
from rich.table import Table
from torch import nn

from pellucid.networks import cross_attention, glf_cr

SMALL = [
    glf_cr.build(glf_cr.Config(width=16, growth=16, num_blocks=2, num_layers=3, num_heads=4, window=4)),
    cross_attention.build(cross_attention.Config(width=8)),
]


@pytest.mark.parametrize("network", SMALL)
@pytest.mark.parametrize("side", [8, 48])
def test_plain_formulation_computes_the_same(network: nn.Module, side: int) -> None:
    torch.manual_seed(0)
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: golden.weight(name, shapes[name]) for name in shapes})
    degraded, sar = torch.rand(2, 13, side, side), torch.rand(2, 2, side, side)
    with torch.no_grad():
        expected = plain(network.eval(), side)(degraded, sar)
        torch.testing.assert_close(network(degraded, sar), expected, rtol=1e-4, atol=1e-5)


def test_every_variant_of_a_network_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "random_network", lambda name: SMALL[name == "cross_attention"].eval())
    monkeypatch.setattr(networks, "_memory_of_child", lambda *_: 10.0)
    results = networks.measure("glf_cr", size=32, threads=1, repeats=1)
    assert tuple(results) == networks.VARIANTS
    assert results[networks.PLAIN].psnr_db == pytest.approx(networks.TRUTH_DB, abs=0.2)
    assert results[networks.FP32].deviation < 1e-4 < results[networks.BF16].deviation < 0.1
    table = Table()
    for _ in range(8):
        table.add_column()
    networks.add_rows(table, "glf_cr", results)
    assert table.row_count == 3
