"""How the processes of a training hold its weights: each a copy (DDP), or each a part of them (FSDP)."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from pellucid.config import Config, TrainConfig
from pellucid.errors import InputError


def check_sharding(config: Config) -> None:
    """Refuse FSDP where it cannot be, or where it would not train what the config says."""
    options = config.train
    if options.strategy != "fsdp":
        return
    if options.num_processes == 1:
        raise InputError(
            "train.strategy is fsdp, but there is one process to share the weights; raise train.num_devices, "
            "or use auto"
        )
    for key, value in (
        ("train.ema_decay", options.ema_decay),
        ("losses.adversarial", config.losses.get("adversarial", 0.0)),
        ("train.lora_rank", options.lora_rank),
    ):
        if value:
            raise InputError(f"{key} is {value}, which needs whole weights; set it to 0, or use ddp")


def precision_of(options: TrainConfig) -> Any:
    """Return Lightning's name of a precision."""
    return "bf16-mixed" if options.precision == "bf16" else "32-true"


def choose_strategy(options: TrainConfig) -> Any:
    """Return what Lightning takes as its strategy; `auto` is DDP for several processes."""
    if options.num_processes == 1:
        return "auto"
    if options.strategy == "fsdp":
        # One file with the whole state, on the first process, as every other run has it.
        return ModelParallelStrategy(options.num_processes, 1, save_distributed_checkpoint=False)
    # Buffers are constants here, and validation shares may differ in length between processes.
    return DDPStrategy(broadcast_buffers=False)


def share_weights(module: LightningModule, steps: tuple[str, ...]) -> None:
    """Leave each process a part of the weights, gathered block by block while one of the `steps` runs.

    `steps` are names of methods of the module. Nothing happens where the strategy is another.
    """
    if not isinstance(module.trainer.strategy, ModelParallelStrategy):
        return
    mesh = module.device_mesh["data_parallel"]  # type: ignore[index]
    module.to(memory_format=torch.contiguous_format)  # parts are of rows
    kinds = tuple(find_blocks(module))
    for block in reversed([each for each in module.modules() if isinstance(each, kinds)]):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in steps:
        register_fsdp_forward_method(module, name)


def find_blocks(network: nn.Module) -> set[type[nn.Module]]:
    """Return the classes of the blocks that a network repeats, which are gathered one after another."""
    lists = [each for each in network.modules() if isinstance(each, nn.ModuleList) and len(each) > 1]
    kinds = {type(block) for each in lists for block in each if any(True for _ in block.parameters())}
    return {kind for kind in kinds if kind.forward is not nn.Module.forward} - {nn.ModuleList}


def gather_into(whole: LightningModule) -> Callable[[Trainer], None]:
    """Return what fills `whole` with the weights that the processes share; every one of them must call it."""

    def gather(trainer: Trainer) -> None:
        state = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            whole.load_state_dict(state)

    return gather
