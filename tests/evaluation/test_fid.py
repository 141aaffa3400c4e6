import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from pellucid.errors import InputError
from pellucid.evaluation.fid import FeatureDistances, load_features
from pellucid.networks._vgg import VGG19, VGG19_TAPS, Vgg


def colors(image: Tensor) -> Tensor:
    """The mean of each band: three features."""
    return image.mean((2, 3))


def images(seed: int, count: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 3, 4, 4, generator=generator) * (1 + seed) / 4


def test_the_distance_is_that_of_two_normal_distributions() -> None:
    truth, made = images(0), images(1)
    distances = FeatureDistances(colors, len(truth))
    for target, image in zip(truth, made, strict=True):
        distances.add(target, {"model": image, "truth": target})
    (first, second) = (
        torch.cat([colors(image) for image in each]).double().numpy() for each in (truth, made)
    )
    covariances = [np.cov(features.T) for features in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(sum(covariances) - 2 * root)
    found = distances.compute()
    assert found["model"] == pytest.approx(expected, rel=1e-6)
    assert found["truth"] == pytest.approx(0, abs=1e-6)


def test_few_images_are_warned_of_and_one_is_refused() -> None:
    few = FeatureDistances(colors, 2)
    for image in images(0, 2):
        few.add(image, {"model": image})
    with pytest.warns(UserWarning, match="FID of 2 images in 3 features is a rough figure"):
        few.compute()
    with pytest.raises(InputError, match="FID compares sets of images, found 1"):
        FeatureDistances(colors, 1)


def test_vgg19_is_seen_through_its_last_layer_averaged_over_the_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Vgg(VGG19, VGG19_TAPS)
    torch.save(network.state_dict(), tmp_path / "vgg19.pth")
    picture = torch.rand(1, 3, 32, 48)
    found = load_features(tmp_path / "vgg19.pth")(picture)
    assert found.shape == (1, 512)
    torch.testing.assert_close(found, network(picture)[0].mean((2, 3)))


class Bytes(nn.Module):
    """Features of 8-bit images, or, unless asked for them, classes."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        assert images.dtype == torch.uint8
        return images.float().mean((2, 3)) if return_features else torch.zeros(1, 10)


class Picture(nn.Module):
    """An image, which is not (B, D)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float()


class Narrow(nn.Module):
    """Refuses all that has not four bands."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().reshape(4, -1)[:, :5] @ torch.zeros(3, 3)


def script(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(network).save(path)  # type: ignore[no-untyped-call]
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_of_the_user_sees_bytes_and_is_asked_for_features(tmp_path: Path) -> None:
    features = load_features(script(Bytes(), tmp_path / "net.pt"))
    picture = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert features(picture).tolist() == [[0, 128, 255]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_no_feature_network_is_refused(tmp_path: Path) -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match=r"picture.pt returns shape \(1, 3, 8, 8\), FID needs"):
        load_features(script(Picture(), tmp_path / "picture.pt"))(picture)
    with pytest.raises(InputError, match=r"narrow.pt does not take \(B, 3, H, W\) of 8 bits"):
        load_features(script(Narrow(), tmp_path / "narrow.pt"))(picture)
    with pytest.raises(InputError, match=r"none\.pth is no file"):
        load_features(tmp_path / "none.pth")
    cut = script(Bytes(), tmp_path / "net.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(InputError, match=r"cut\.pt is damaged"):
        load_features(tmp_path / "cut.pt")
