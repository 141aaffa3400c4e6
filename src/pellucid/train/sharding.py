"""How the processes of a training hold its weights: each a copy (DDP), or each a part of them (FSDP)."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import FSDPPrecision
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from torch import nn

from pellucid.config import Config, TrainConfig
from pellucid.errors import InputError
from pellucid.methods.inference import choose_device


def check_sharding(config: Config) -> None:
    """Refuse FSDP where it cannot be, or where it would not train what the config says."""
    options = config.train
    if options.strategy != "fsdp":
        return
    device = choose_device(options.device)
    if device.type != "cuda":
        raise InputError(
            f"train.strategy is fsdp, which shares the weights among GPUs, but the device is {device}; "
            "use ddp, which trains on a CPU too, or auto"
        )
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


class _WholeBatches(FSDPPrecision):
    """Leaves batches as they are: they are fp32 already, and Lightning cannot convert frozen ones."""

    def convert_input(self, data: Any) -> Any:
        """Return the batch."""
        return data


def precision_of(options: TrainConfig) -> Any:
    """Return Lightning's name of a precision."""
    return "bf16-mixed" if options.precision == "bf16" else "32-true"


def choose_strategy(options: TrainConfig, network: nn.Module) -> Any:
    """Return what Lightning takes as its strategy; `auto` is DDP for several processes."""
    if options.num_processes == 1:
        return "auto"
    if options.strategy == "fsdp":
        # One file with the whole state, on the first process, as every other run has it.
        return FSDPStrategy(
            auto_wrap_policy=find_blocks(network) or None,
            state_dict_type="full",
            precision_plugin=_WholeBatches(precision_of(options)),
        )
    # Buffers are constants here, and validation shares may differ in length between processes.
    return DDPStrategy(broadcast_buffers=False)


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
