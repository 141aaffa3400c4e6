from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import TinyData, tiny_config, tiny_method, train_tiny
from torch import nn

from pellucid.errors import InputError
from pellucid.methods.inference import choose_device
from pellucid.train.loaders import train_loader
from pellucid.train.trainer import Training


def test_epochs_of_the_step_schedule_are_passes_over_the_samples() -> None:
    settings = tiny_config(schedule="step", step_epochs=1, batch=2, accumulate=2)
    made = Training(tiny_method(), settings, samples_per_epoch=10).configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.01] * 3 + [0.005] * 3)  # 10 samples are 3 steps of 4


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no device '{name}' on this machine, use auto or cpu"):
        choose_device(name)


def test_images_reach_the_network_channels_last() -> None:
    batch = TinyData(1)[0]
    module = Training(tiny_method(), tiny_config(), samples_per_epoch=1)
    moved = module.on_after_batch_transfer(batch, 0)
    assert moved.degraded.is_contiguous(memory_format=torch.channels_last)
    assert module.network.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.degraded, batch.degraded)


def test_validation_compares_with_the_input_and_the_mean_spectrum() -> None:
    batch = TinyData(1, size=(17, 18))[0]
    module = Training(tiny_method(), tiny_config(), samples_per_epoch=1)
    module.validation_step(batch, 0)
    means = module.means.take()
    error = (batch.degraded - batch.target).square().mean()
    assert means["val_psnr_input"] == pytest.approx(-10 * torch.log10(error).item(), abs=1e-4)
    error = (0.15 - batch.target).square().mean()
    assert means["val_psnr_spectrum"] == pytest.approx(-10 * torch.log10(error).item(), abs=1e-4)


def test_padding_to_the_stride_does_not_count_in_the_loss() -> None:
    batch = TinyData(1, size=(17, 18))[0]
    module = Training(tiny_method(dropout=0), tiny_config(), samples_per_epoch=1).eval()
    module.validation_step(batch, 0)
    padded = batch.pad(4)
    assert padded.degraded.shape[-2:] == padded.valid.shape[-2:] == (20, 20)
    assert torch.equal(padded.degraded[..., 17:, :18], batch.degraded[..., 13:16, :].flip(-2))
    assert padded.valid.sum() == 17 * 18
    restored = module.network(padded.degraded, padded.sar)[..., :17, :18]
    expected = (restored - batch.target).abs().mean().item()
    assert module.means.take()["val_loss_l1"] == pytest.approx(expected, rel=1e-5)


def test_validation_ignores_pixels_that_are_not_valid() -> None:
    batch = TinyData(1)[0]
    valid = batch.valid.clone()
    valid[..., :8] = False
    spoilt = batch.target.clone()
    spoilt[..., :8] = 1
    module = Training(tiny_method(dropout=0), tiny_config(), samples_per_epoch=1).eval()
    module.validation_step(replace(batch, valid=valid), 0)
    expected = module.means.take()
    module.validation_step(replace(batch, valid=valid, target=spoilt), 0)
    assert module.means.take() == expected


def test_an_image_without_truth_cannot_serve_for_validation() -> None:
    module = Training(tiny_method(), tiny_config(), samples_per_epoch=1)
    with pytest.raises(InputError, match="image 0 has no clear image"):
        module.validation_step(replace(TinyData(1)[0], target=None), 0)


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", num_steps=2)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["callbacks"] = {}
    torch.save(checkpoint, last)
    with pytest.raises(InputError, match=r"last\.ckpt was saved by an earlier version"):
        train_tiny(tmp_path / "run", num_steps=4, resume=True)


def test_the_optimiser_and_the_loaders_have_the_settings_of_the_config() -> None:
    module = Training(tiny_method(), tiny_config(eps=1e-5, betas=(0.5, 0.9)), samples_per_epoch=1)
    group = module.configure_optimizers()["optimizer"].param_groups[0]
    assert (group["eps"], group["betas"]) == (1e-5, (0.5, 0.9))
    position = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    for is_pinned in (False, True):
        loader = train_loader(position, TinyData(9), tiny_config(pin_memory=is_pinned).train)
        assert loader.pin_memory == is_pinned


def test_a_network_is_compiled_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = list[nn.Module]()

    def note(module: nn.Module) -> None:
        compiled.append(module)

    monkeypatch.setattr(nn.Module, "compile", note)
    module = Training(tiny_method(), tiny_config(compile=True), samples_per_epoch=1)
    assert compiled == [module.network]
    Training(tiny_method(), tiny_config(), samples_per_epoch=1)
    assert len(compiled) == 1
