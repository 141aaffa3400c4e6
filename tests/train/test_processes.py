import pytest
import torch
from tiny import tiny_config

from pellucid.errors import InputError
from pellucid.train.processes import check_processes, is_first

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        monkeypatch.delenv(name, raising=False)


def launch(monkeypatch: pytest.MonkeyPatch, world: int, local: int) -> None:
    found = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": local}
    for name, value in {**found, "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("places", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        ({"RANK": "0", "SLURM_PROCID": "3"}, True),  # torchrun within a job of Slurm
        ({"RANK": "1", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "2"}, False),
    ],
)
def test_the_first_process_of_all_machines_is_known(
    monkeypatch: pytest.MonkeyPatch, places: dict[str, str], first: bool
) -> None:
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    assert is_first() is first


def test_processes_of_torchrun_must_be_those_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, world=6, local=3)
    check_processes(tiny_config(num_nodes=2, num_devices=3).train)
    with pytest.raises(
        InputError, match=r"started 6 processes, 3 on each machine.*num_nodes=2 --set train.num_devices=3"
    ):
        check_processes(tiny_config(num_nodes=3, num_devices=2).train)
    with pytest.raises(InputError, match=r"num_nodes is 1 and train.num_devices 1; add"):
        check_processes(tiny_config().train)


def test_several_machines_need_to_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    options = tiny_config(num_nodes=2, num_devices=4).train
    with pytest.raises(InputError, match=r"torchrun --nnodes 2 --nproc-per-node 4 .*pellucid train"):
        check_processes(options)
    monkeypatch.setenv("NODE_RANK", "1")
    check_processes(options)


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.train.processes.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(tiny_config(num_devices=2).train)
    with pytest.raises(InputError, match=r"num_devices is 3, but this machine has 2 GPUs"):
        check_processes(tiny_config(num_devices=3).train)
