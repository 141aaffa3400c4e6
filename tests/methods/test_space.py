import torch

from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.data.resample import all_inside
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.space import Latents, Pixels
from pellucid.networks.autoencoder import Config, build


def latents() -> Latents:
    torch.manual_seed(0)
    network = build(
        Config(bands=2, width=8, multipliers=(1, 2, 2), num_blocks=1, latent_channels=3, groups=4)
    )
    return Latents(
        Autoencoding(network, AutoencodingConfig(), optical=SENTINEL2.select(()), radar=SENTINEL1, losses={})
    )


def test_pixels_go_from_minus_one_to_one_and_back() -> None:
    image = torch.rand(2, 3, 4, 6)
    space = Pixels(3)
    torch.testing.assert_close(space.decode(space.encode(image)), image)
    assert space.encode(torch.tensor([0.0, 0.5, 1.0, torch.nan])).tolist() == [-1, 0, 1, 0]


def test_latents_are_those_of_the_network() -> None:
    space = latents()
    image = torch.rand(1, 2, 8, 12)
    found = space.encode(image)
    assert (space.channels, space.factor, found.shape) == (3, 4, (1, 3, 2, 3))
    with torch.no_grad():
        torch.testing.assert_close(found, space.network.encode(2 * image - 1))
        torch.testing.assert_close(space.decode(found), (space.network.decode(found) + 1) / 2)


def test_a_grey_image_is_seen_as_many_times_as_there_are_bands() -> None:
    coder, grey = latents(), torch.rand(2, 1, 8, 8)
    found = Latents(coder.coder, copies=2).encode(grey)
    assert found.equal(coder.encode(grey.expand(-1, 2, -1, -1)))


def test_gradients_pass_the_decoder_but_change_no_autoencoder() -> None:
    space = latents()
    values = torch.randn(1, 3, 2, 2, requires_grad=True)
    space.decode(values).sum().backward()
    assert values.grad is not None
    assert values.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in space.network.parameters())
    assert not space.network.training
    assert not space.encode(torch.rand(1, 2, 8, 8, requires_grad=True)).requires_grad


def test_a_latent_pixel_is_inside_if_all_its_pixels_are() -> None:
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    mask[0, 0, 3, 1] = False
    assert all_inside(mask, 2).tolist() == [[[[1, 1], [0, 1]]]]
    assert all_inside(mask, 1).equal(mask.float())
