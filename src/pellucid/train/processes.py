"""The processes that train together: which of them this is, and whether they are those of the config."""

import os

import torch

from pellucid.config import TrainConfig
from pellucid.errors import InputError
from pellucid.methods.inference import choose_device

# By any of these a cluster, or the user, says where a process stands among those of all machines.
PLACES = ("NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def is_first() -> bool:
    """Return whether this process is the only one, or the first of several; it alone writes."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", *PLACES))


def is_launched() -> bool:
    """Return whether torchrun started this process."""
    return torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()


def check_processes(options: TrainConfig) -> None:
    """Refuse processes that are not there, or that nobody reckoned with."""
    nodes, devices = options.num_nodes, options.num_devices
    if is_launched():
        world, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        if (nodes * local, devices) != (world, local):
            raise InputError(
                f"torchrun started {world} processes, {local} on each machine, but train.num_nodes is "
                f"{nodes} and train.num_devices {devices}; add --set train.num_nodes={world // local} "
                f"--set train.num_devices={local}"
            )
    elif nodes > 1 and not any(name in os.environ for name in PLACES):
        raise InputError(
            f"train.num_nodes is {nodes}, but nothing says which of them this machine is; start it on each "
            f"with torchrun --nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint "
            "FIRST_MACHINE:29500 --no-python -- pellucid train ..., or through srun"
        )
    if choose_device(options.device).type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"train.num_devices is {devices}, but this machine has {torch.cuda.device_count()} GPUs; lower "
            "it, or train on several machines (train.num_nodes)"
        )
