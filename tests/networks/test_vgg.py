from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image.lpips as independent
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from pellucid.build.weights_file import load_lpips, load_vgg19
from pellucid.errors import InputError
from pellucid.networks._vgg import VGG16, VGG16_TAPS, VGG19, VGG19_TAPS, Lpips, Vgg, weigh_channels

# Positions of the convolutions in torchvision's `features`.
VGG19_CONVOLUTIONS = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28]
VGG19_POOLS = [4, 9, 18, 27]


def weights_of(blocks: tuple[int, ...], taps: tuple[int, ...]) -> dict[str, Tensor]:
    """Random weights that keep the signal's size, in half precision, and one of the classifier."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Vgg(blocks, taps).state_dict().items()}
    made = {"classifier.0.weight": torch.zeros(2, 2, dtype=torch.half)}
    for name, shape in shapes.items():
        deviation = (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.1
        made[name] = (deviation * torch.randn(shape, generator=generator)).half()
    return made


@pytest.fixture(scope="module")
def vgg19_weights() -> dict[str, Tensor]:
    return weights_of(VGG19, VGG19_TAPS)


@pytest.fixture(scope="module")
def vgg19_file(vgg19_weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg19") / "vgg19.pth"
    torch.save(vgg19_weights, path)
    return path


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.safetensors"
    save_file(weights_of(VGG16, VGG16_TAPS), path)
    return path


@pytest.fixture(scope="module")
def lpips(vgg16_file: Path) -> Lpips:
    return load_lpips(vgg16_file)


def images(bands: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, 2, bands, side, side, generator=torch.Generator().manual_seed(1))
    return first, second


@pytest.mark.parametrize(
    # The `features` of torchvision's vgg16 and vgg19, without the last pooling.
    ("blocks", "last", "num_parameters"),
    [(VGG16, 29, 14_714_688), (VGG19, 35, 20_024_384)],
)
def test_the_number_of_parameters_is_the_published_one(
    blocks: tuple[int, ...], last: int, num_parameters: int
) -> None:
    with torch.device("meta"):
        network = Vgg(blocks, [last])
    assert sum(weights.numel() for weights in network.parameters()) == num_parameters


def test_vgg19_computes_conv5_1_from_the_weights_of_the_file(
    vgg19_file: Path, vgg19_weights: dict[str, Tensor]
) -> None:
    image, _ = images(bands=1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    expected = (image.repeat(1, 3, 1, 1) - mean) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for position in range(30):
        if position in VGG19_CONVOLUTIONS:
            weight, bias = (
                vgg19_weights[f"features.{position}.{part}"].float() for part in ("weight", "bias")
            )
            expected = conv2d(expected, weight, bias, padding=1).relu()
        elif position in VGG19_POOLS:
            expected = max_pool2d(expected, 2)
    (features,) = load_vgg19(vgg19_file)(image)
    assert features.shape == (2, 512, 2, 2)
    assert features.std() > 0.1
    torch.testing.assert_close(features, expected)


def test_a_grey_image_is_seen_as_rgb_of_one_value(vgg19_file: Path) -> None:
    network = load_vgg19(str(vgg19_file))
    grey, _ = images(bands=1)
    torch.testing.assert_close(network(grey), network(grey.repeat(1, 3, 1, 1)))


def test_the_network_is_frozen_and_its_gradient_reaches_the_image(vgg19_file: Path) -> None:
    network = load_vgg19(vgg19_file)
    image, _ = images()
    image.requires_grad_()
    network(image)[0].sum().backward()
    assert image.grad is not None
    assert (image.grad != 0).float().mean() > 0.9
    assert not network.training
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in network.parameters())


def test_weights_come_from_a_url_too(
    vgg19_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    image, _ = images()
    torch.testing.assert_close(load_vgg19(vgg19_file.as_uri())(image), load_vgg19(vgg19_file)(image))
    assert (tmp_path / "hub" / "checkpoints" / "vgg19.pth").is_file()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 4, 16, 16), "the image has 4 bands, VGG needs grey or RGB"),
        ((1, 1, 15, 32), "the image has 15 x 32 pixels, VGG needs sides of 16"),
    ],
)
def test_images_that_vgg_cannot_see_are_refused(shape: tuple[int, ...], sentence: str) -> None:
    with torch.device("meta"):
        network = Vgg(VGG19, VGG19_TAPS)
    with pytest.raises(ValueError, match=sentence):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"features.28.bias": None}, "is no VGG19: features.28.bias is missing; give the published file"),
        (
            {"features.0.weight": torch.zeros(64, 1, 3, 3)},
            r"is no VGG19: features.0.weight has shape \(64, 1, 3, 3\) instead of \(64, 3, 3, 3\)",
        ),
    ],
)
def test_other_weights_than_those_of_vgg19_are_refused(
    vgg19_weights: dict[str, Tensor], tmp_path: Path, change: dict[str, Tensor | None], sentence: str
) -> None:
    # One number, seen as many: the values do not matter here.
    small = {name: torch.zeros(()).expand(value.shape) for name, value in vgg19_weights.items()}
    torch.save({k: v for k, v in (small | change).items() if v is not None}, tmp_path / "net.pth")
    with pytest.raises(InputError, match=sentence):
        load_vgg19(tmp_path / "net.pth")


def test_a_vgg16_is_no_vgg19(vgg16_file: Path) -> None:
    with pytest.raises(InputError, match=r"is no VGG19: features\.16\.weight is missing"):
        load_vgg19(vgg16_file)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vgg19\.pth is no file, check the path"):
        load_vgg19(tmp_path / "vgg19.pth")
    (tmp_path / "vgg19.pth").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"vgg19\.pth is damaged"):
        load_vgg19(tmp_path / "vgg19.pth")


def test_lpips_equals_that_of_torchmetrics(lpips: Lpips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(independent, "_get_tv_model_features", lambda *_: lpips.network.features)
    published_heads = Path(independent.__file__).parent / "lpips_models" / "vgg.pth"
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **_: load(path, map_location="cpu"))
    other = independent._LPIPS(net="vgg", model_path=str(published_heads))
    first, second = images()
    expected = other(2 * first - 1, 2 * second - 1).flatten()
    assert expected.min() > 0.01
    torch.testing.assert_close(lpips(first, second), expected, rtol=1e-4, atol=1e-6)


def test_lpips_weighs_the_squared_difference_of_directions() -> None:
    # (3, 4) and (0, 5) have the directions (0.6, 0.8) and (0, 1): 2 x 0.36 + 5 x 0.04.
    first, second = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)
    head = torch.tensor([2.0, 5.0]).view(1, 2, 1, 1)
    assert weigh_channels(first, second, head).item() == pytest.approx(0.92)
    assert weigh_channels(10 * first, second, head).item() == pytest.approx(0.92)
    assert weigh_channels(torch.zeros_like(first), second, head).item() == pytest.approx(5)


def test_lpips_of_identical_images_is_0_and_grows_with_noise_whichever_comes_first(lpips: Lpips) -> None:
    image, other = images(bands=1)
    little, much = (image + strength * (other - 0.5) for strength in (0.1, 0.4))
    assert lpips(image, image).tolist() == [0, 0]
    assert (lpips(little, image) > 0).all()
    assert (lpips(much, image) > lpips(little, image)).all()
    torch.testing.assert_close(lpips(much, image), lpips(image, much))


def test_lpips_outside_the_mask_does_not_count(lpips: Lpips) -> None:
    first, second = images()
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[0, :, :16] = True
    expected = lpips(first, second, mask)
    first[..., 16:, :] = torch.nan
    torch.testing.assert_close(lpips(first, second, mask), expected, equal_nan=True)
    assert expected[0] > 0
    assert expected[1].isnan()
