import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from tiny import tiny_config, tiny_method
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from pellucid.errors import InputError
from pellucid.train.sharding import check_sharding, choose_strategy, find_blocks
from pellucid.train.trainer import Training


def test_the_strategy_is_that_of_the_config() -> None:
    network = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    assert choose_strategy(tiny_config(strategy="fsdp").train, network) == "auto"
    for name in ("auto", "ddp"):
        assert type(choose_strategy(tiny_config(strategy=name, num_devices=2).train, network)) is DDPStrategy
    assert type(choose_strategy(tiny_config(strategy="fsdp", num_nodes=2).train, network)) is FSDPStrategy


def test_blocks_are_what_a_network_repeats() -> None:
    repeated = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    single = nn.ModuleList([nn.Conv2d(1, 1, 1)])
    silent = nn.ModuleList([nn.ReLU(), nn.ReLU()])
    assert find_blocks(nn.ModuleDict({"a": repeated, "b": single, "c": silent})) == {nn.Linear}


def test_fsdp_is_refused_without_gpus() -> None:
    with pytest.raises(InputError, match=r"strategy is fsdp.* the device is cpu; use ddp"):
        check_sharding(tiny_config(strategy="fsdp", num_devices=2))
    check_sharding(tiny_config(strategy="ddp", num_devices=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_devices": 1}, "there is one process"),
        ({"num_devices": 2, "ema_decay": 0.9}, "train.ema_decay is 0.9, which needs whole weights"),
    ],
)
def test_fsdp_is_refused_where_it_would_not_train_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, float], message: str
) -> None:
    monkeypatch.setattr("pellucid.train.sharding.choose_device", lambda name: torch.device("cuda"))
    with pytest.raises(InputError, match=message):
        check_sharding(tiny_config(strategy="fsdp", **options))


def test_shared_weights_have_the_names_of_whole_ones() -> None:
    options = tiny_config(strategy="fsdp", num_devices=2)
    module = Training(tiny_method(), options, 1)
    module.network.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    names = list(module.state_dict())
    strategy = choose_strategy(options.train, module.network)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        strategy.model = FullyShardedDataParallel(module, device_id=torch.device("cpu"), **strategy.kwargs)
        assert isinstance(module.network.blocks[0], FullyShardedDataParallel)
        assert list(strategy.lightning_module_state_dict()) == names
    finally:
        distributed.destroy_process_group()
