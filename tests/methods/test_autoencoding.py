from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2, ValueRange
from pellucid.errors import InputError
from pellucid.losses.l1 import l1
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig, divergence, to_model
from pellucid.methods.method import result_range
from pellucid.networks.autoencoder import Autoencoder, Config, build, smooth

TINY = Config(bands=2, width=4, multipliers=(1, 2, 2), num_blocks=1, latent_channels=3, groups=2)


def make_method(
    *, kl_weight: float = 0.0, sample: bool = True, smooth: float = 0.0, network: Autoencoder | None = None
) -> Autoencoding:
    torch.manual_seed(0)
    return Autoencoding(
        network or build(TINY),
        AutoencodingConfig(kl_weight=kl_weight, sample=sample, smooth=smooth),
        optical=SENTINEL2.select(()),
        radar=SENTINEL1,
        losses={"l1": (2.0, l1)},
    )


def make_batch(side: int = 16, count: int = 2) -> Batch:
    image = torch.rand(count, 2, side, side, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(count, 1, side, side, dtype=torch.bool)
    return Batch(degraded=image, target=image, valid=valid, key=("a",) * count)


def with_hole(batch: Batch, value: float) -> Batch:
    """Return the batch without its first eight columns, whose values are then this one."""
    valid = batch.valid.clone()
    valid[..., :8] = False
    image = batch.degraded.where(valid, value)
    return replace(batch, degraded=image, target=image, valid=valid)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_the_error_is_weighed_by_its_own_learned_size() -> None:
    method, batch = make_method(), make_batch()
    error = (method.network(batch.target * 2 - 1)[0] / 2 + 0.5 - batch.target).abs().mean()
    for logvar in (0.0, -3.0):
        torch.nn.init.constant_(method.network.error_logvar, logvar)
        terms = method.loss(batch)
        torch.testing.assert_close(terms["l1"], 2 * error * torch.tensor(-logvar).exp())
        torch.testing.assert_close(terms["total"], terms["l1"] + logvar)


def test_the_learned_size_settles_at_the_error() -> None:
    method, batch = make_method(), make_batch()
    logvar = method.network.error_logvar
    error = method.loss(batch)["l1"].detach() * logvar.detach().exp()
    torch.nn.init.constant_(logvar, error.log().item())
    method.loss(batch)["total"].backward()
    assert logvar.grad is not None
    assert logvar.grad.item() == pytest.approx(0, abs=1e-5)


def test_the_divergence_is_that_of_torch_per_pixel() -> None:
    mean, logvar = torch.randn(2, 2, 3, 2, 4, generator=seeded())
    valid = torch.ones(2, 1, 8, 16, dtype=torch.bool)
    code = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    known = torch.distributions.kl_divergence(code, torch.distributions.Normal(0, 1))
    torch.testing.assert_close(divergence(mean, logvar, valid), known.sum() / valid.numel())
    valid[..., 4:] = False  # leaves the first column of latents
    torch.testing.assert_close(divergence(mean, logvar, valid), known[..., 0].sum() / (2 * 8 * 4))
    assert divergence(mean, logvar, torch.zeros_like(valid)) == 0


def test_the_divergence_weighs_as_published_at_256_pixels() -> None:
    """Published: a mean over the batch of sums over an image's latents, weight 1e-5."""
    method, batch = make_method(kl_weight=1e-5), make_batch(side=256, count=1)
    mean, logvar = method.network.posterior(batch.target * 2 - 1)
    known = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum((1, 2, 3)).mean()
    torch.testing.assert_close(method.loss(batch)["kl"], 1e-5 * known)


def test_codes_are_drawn_in_training_alone() -> None:
    batch = make_batch()
    method = make_method()
    drawn = method.loss(batch, seeded())["l1"]
    assert torch.equal(drawn, method.loss(batch, seeded())["l1"])
    assert not torch.equal(drawn, method.loss(batch)["l1"])
    without = make_method(sample=False)
    assert torch.equal(without.loss(batch, seeded())["l1"], without.loss(batch)["l1"])


@pytest.mark.parametrize("value", [torch.nan, 0.0, 7.0])
def test_pixels_without_data_reach_neither_loss_nor_encoder(value: float) -> None:
    method, batch = make_method(kl_weight=1e-5), make_batch()
    expected = method.loss(with_hole(batch, 0.5))
    found = method.loss(with_hole(batch, value))
    assert found == expected
    assert torch.isfinite(found["total"])
    restored = method.restore(with_hole(batch, value))
    assert torch.equal(restored, method.restore(with_hole(batch, 0.5)))


def test_what_is_decoded_beside_a_hole_is_judged_without_it() -> None:
    method, batch = make_method(), with_hole(make_batch(), 0.0)
    restored = method.decode(method.encode(batch.degraded, batch.valid))
    error = (restored - batch.target)[..., 8:].abs().mean()
    expected = 2 * error * (-method.network.error_logvar).exp()
    torch.testing.assert_close(method.loss(batch)["l1"], expected)


def test_missing_values_become_the_middle_of_the_range() -> None:
    image = torch.tensor([0.0, 1.0, torch.nan, 0.25]).view(1, 1, 1, 4)
    assert to_model(image).flatten().tolist() == [-1, 1, 0, -0.5]
    valid = torch.tensor([False, True, True, True]).view(1, 1, 1, 4)
    assert to_model(image, valid).flatten().tolist() == [0, 1, 0, -0.5]


def test_an_image_is_encoded_and_decoded_in_the_unit_range() -> None:
    method, batch = make_method(), make_batch()
    with torch.no_grad():
        method.network.decoder.conv_out.weight.mul_(100)
        whole = method.network.decode(method.network.encode(batch.degraded * 2 - 1)) / 2 + 0.5
    torch.testing.assert_close(method.restore(batch), whole.clamp(0, 1))
    assert whole.min() < 0
    assert whole.max() > 1


def test_measured_latents_have_mean_zero_and_deviation_one_over_whole_images() -> None:
    method, batch = make_method(), make_batch(count=4)
    spoilt = with_hole(replace(batch, degraded=batch.degraded.flip(0) ** 4), 0.0)
    method.measure([spoilt, batch])
    latents = method.encode(batch.degraded).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(1, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    method.measure([spoilt])  # nothing whole: better than nothing
    assert not torch.allclose(method.encode(batch.degraded).mean((0, 2, 3)), torch.zeros(3), atol=1e-2)


def test_latents_that_say_nothing_are_refused() -> None:
    method = make_method()
    torch.nn.init.zeros_(method.network.encoder.conv_out.weight)
    with pytest.raises(InputError, match=r"has learned nothing: deviation .* lower method\.kl_weight"):
        method.measure([make_batch()])


def test_every_weight_learns() -> None:
    method = make_method(kl_weight=1e-5)
    method.loss(make_batch(), seeded())["total"].backward()
    for name, weight in method.network.named_parameters():
        assert weight.grad is not None, name
        # A bias that is the same for all keys cancels in the softmax.
        assert weight.grad.any() or name.endswith("to_k.bias"), name


def test_the_learned_size_of_the_error_is_saved_with_the_weights() -> None:
    assert "error_logvar" in make_method().network.state_dict()


@pytest.mark.parametrize(
    ("optical", "radar", "found"),
    [(SENTINEL2, SENTINEL1, "both"), (SENTINEL2.select(()), SENTINEL1.select(()), "neither")],
)
def test_an_autoencoder_is_of_one_kind_of_images(optical: ValueRange, radar: ValueRange, found: str) -> None:
    with pytest.raises(ValueError, match=f"of optical bands or of radar, found {found}"):
        Autoencoding(build(TINY), AutoencodingConfig(), optical=optical, radar=radar, losses={})


def test_the_result_is_radar_where_the_images_are() -> None:
    assert result_range(make_method()) == SENTINEL1


def test_a_loss_needs_a_target() -> None:
    batch: Batch = replace(make_batch(), target=None)
    with pytest.raises(ValueError, match="a has no target"):
        make_method().loss(batch)


def test_gradients_pass_through_encoding_and_decoding() -> None:
    """A flow may be judged by its decoded estimate."""
    method = make_method()
    latents: Tensor = method.encode(make_batch().degraded).detach().requires_grad_()
    method.decode(latents).sum().backward()
    assert latents.grad is not None
    assert latents.grad.any()


def test_averaged_codes_are_compared_with_images_that_are_averaged_alike() -> None:
    method, batch = make_method(smooth=1.0, sample=False), make_batch()
    seen = []
    method.losses = {
        "l1": (1.0, lambda restored, given: seen.append((restored, given)) or l1(restored, given))
    }
    for seed in range(8):
        method.loss(batch, torch.Generator().manual_seed(seed))
    code, _ = method.network.posterior(to_model(batch.target))
    expected = [
        (method.network._decode(smooth(code, side)) / 2 + 0.5, smooth(batch.target, 4 * side))
        for side in (2, 4)
    ]
    matched = [
        [
            torch.allclose(restored, image, atol=1e-5) and torch.allclose(given.target, target)
            for image, target in expected
        ]
        for restored, given in seen
    ]
    assert all(sum(each) == 1 for each in matched)
    assert {each.index(True) for each in matched} == {0, 1}


@pytest.mark.parametrize("is_training", [True, False])
def test_codes_are_averaged_in_training_alone_and_where_all_is_valid(is_training: bool) -> None:
    plain, smoothing = make_method(sample=False), make_method(smooth=1.0, sample=False)
    for method in (plain, smoothing):
        method.network.train(is_training)
    totals = [
        [method.loss(batch, seeded())["total"].item() for method in (plain, smoothing)]
        for batch in (make_batch(), with_hole(make_batch(), 0.0))
    ]
    assert (totals[0][0] == totals[0][1]) == (not is_training)
    assert totals[1][0] == totals[1][1]


def test_smoothing_keeps_the_mean_and_leaves_no_step() -> None:
    image = make_batch().degraded
    assert smooth(image, 1) is image
    torch.testing.assert_close(smooth(image, 16), image.mean((2, 3), keepdim=True).expand_as(image))
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    assert smooth(ramp, 4).diff(dim=-1).abs().max() <= 1 + 1e-5
