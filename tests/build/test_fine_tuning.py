import sys

import pytest
import torch
from torch import Tensor, nn

from pellucid.build.fine_tuning import add_lora, freeze, plain_state
from pellucid.errors import InputError


class Net(nn.Module):
    """A convolution, a block with attention of torch, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 4, 1)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.block = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
        self.register_buffer("constant", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.first(x).flatten(2).mT
        return self.block(self.attend(tokens, tokens, tokens)[0])


IMAGE = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))


def trained(network: nn.Module) -> set[str]:
    return {name for name, weight in network.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("block.*",), {"first", "attend"}),
        (("*", "!first.*"), {"first"}),
        (("*", "!block.*", "*.2.*"), {"block.0"}),
    ],
)
def test_the_last_pattern_that_fits_counts(patterns: tuple[str, ...], expected: set[str]) -> None:
    network = Net()
    freeze(network, patterns)
    assert {name.rpartition(".")[0].removesuffix(".out_proj") for name in trained(network)} == expected


def test_nothing_is_frozen_without_patterns() -> None:
    network = Net()
    freeze(network, ())
    assert all(weight.requires_grad for weight in network.parameters())


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"no weight .* is called '!blok\.0\.bias'; did you mean 'block"):
        freeze(Net(), ("*", "!blok.0.bias"))
    with pytest.raises(InputError, match=r"the first is 'first\.weight', the last 'block\.2\.bias'"):
        freeze(Net(), ("unet.*.xyz",))


def test_lora_begins_with_the_same_result() -> None:
    network = Net()
    before = network(IMAGE)
    freeze(network, ("*", "!first.*"))
    add_lora(network, 2, seed=0)
    torch.testing.assert_close(network(IMAGE), before)
    adapters = {f"block.{at}.lora_{factor}.default.weight" for at in (0, 2) for factor in "AB"}
    assert trained(network) == adapters | {"first.weight", "first.bias"}


def test_lora_is_added_to_frozen_layers_only_and_follows_from_the_seed() -> None:
    states = []
    for seed in (1, 1, 2):
        network = Net()
        freeze(network, ("block.0.*",))
        add_lora(network, 2, seed=seed)
        states.append(network.state_dict())
        assert not any("block.2.lora" in name for name in states[-1])
    name = "block.0.lora_A.default.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_plain_state_gives_the_same_result_without_peft() -> None:
    network = Net()
    names = network.state_dict().keys()
    freeze(network, ("*",))
    add_lora(network, 2, seed=0)
    optimizer = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], lr=0.1)
    before = network(IMAGE)
    for _ in range(3):
        optimizer.zero_grad()
        network(IMAGE).square().sum().backward()
        optimizer.step()
    after = network(IMAGE)
    assert not torch.allclose(after, before, atol=1e-2)
    state = plain_state(network)
    assert state.keys() == names
    plain = Net()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(IMAGE), after)


def test_plain_state_of_a_plain_network_is_its_state() -> None:
    network = Net()
    found, state = plain_state(network), network.state_dict()
    assert found.keys() == state.keys()
    assert all(found[name] is value or torch.equal(found[name], value) for name, value in state.items())


def test_lora_without_frozen_layers_is_refused() -> None:
    with pytest.raises(InputError, match=r"no linear layer .* is frozen; set train\.freeze"):
        add_lora(Net(), 2, seed=0)


def test_lora_without_peft_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    network = Net()
    freeze(network, ("*",))
    with pytest.raises(InputError, match=r"lora_rank is 2, which needs peft; install it \(pip install"):
        add_lora(network, 2, seed=0)
