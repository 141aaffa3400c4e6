import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from tiny import tiny_config, tiny_method
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from pellucid.errors import InputError
from pellucid.train.sharding import check_sharding, choose_strategy, find_blocks
from pellucid.train.trainer import Training


def test_the_strategy_is_that_of_the_config() -> None:
    assert choose_strategy(tiny_config(strategy="fsdp").train) == "auto"
    for name in ("auto", "ddp"):
        assert type(choose_strategy(tiny_config(strategy=name, num_devices=2).train)) is DDPStrategy
    strategy = choose_strategy(tiny_config(strategy="fsdp", num_nodes=2).train)
    assert type(strategy) is ModelParallelStrategy


def test_blocks_are_what_a_network_repeats() -> None:
    repeated = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    single = nn.ModuleList([nn.Conv2d(1, 1, 1)])
    silent = nn.ModuleList([nn.ReLU(), nn.ReLU()])
    assert find_blocks(nn.ModuleDict({"a": repeated, "b": single, "c": silent})) == {nn.Linear}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_devices": 1}, "there is one process"),
        ({"num_devices": 2, "ema_decay": 0.9}, "train.ema_decay is 0.9, which needs whole weights"),
    ],
)
def test_fsdp_is_refused_where_it_would_not_train_what_is_asked(
    options: dict[str, float], message: str
) -> None:
    check_sharding(tiny_config(strategy="fsdp", num_devices=2))
    with pytest.raises(InputError, match=message):
        check_sharding(tiny_config(strategy="fsdp", **options))


def test_shared_weights_have_the_names_of_whole_ones() -> None:
    options = tiny_config(strategy="fsdp", num_devices=2)
    module = Training(tiny_method(), options, 1)
    module.network.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    names = list(module.state_dict())
    module.trainer = Trainer(accelerator="cpu", devices=1, logger=False, barebones=True)
    module.configure_model()  # of another strategy
    assert not any(isinstance(weight, DTensor) for weight in module.parameters())
    strategy = module.trainer._accelerator_connector.strategy = choose_strategy(options.train)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        module._device_mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data_parallel", "other"))
        module.configure_model()
        assert isinstance(module.network.blocks[0], FSDPModule)
        assert all(isinstance(weight, DTensor) for weight in module.parameters())
        strategy.model = module
        assert list(strategy.lightning_module_state_dict()) == names
    finally:
        distributed.destroy_process_group()
