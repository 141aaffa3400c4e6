import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pellucid.data.batch import Batch, Condition
from pellucid.data.cloud_score import cloud_score
from pellucid.data.ranges import SENTINEL1, SENTINEL2, SLICE
from pellucid.data.resample import enlarge
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.generative.noise import keyed_noise
from pellucid.generative.path import RectifiedFlow, time_shift
from pellucid.losses.l1 import l1
from pellucid.methods.autoencoding import Autoencoding, AutoencodingConfig
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.space import Latents, Pixels
from pellucid.networks import autoencoder

BANDS = ("B02", "B03", "B04")


class Enlarged(nn.Module):
    """Says that the image is its condition, times a weight that is 1 at first."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.levels: list[Tensor] = []

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.degraded is not None
        assert x_t.shape == condition.degraded.shape
        self.levels.append(c_noise)
        return self.weight * condition.degraded


def method(**options: Any) -> Generative:
    """Return a method of slices; what are no parts of it are options of its config."""
    losses = options.pop("losses", {"l1": (1.0, l1)})
    config = {"path": {"num_steps": 20}, "prediction": "image", "scale": 4, "steps": 3, **options}
    return Generative(
        Enlarged(),
        parse(GenerativeConfig, config, where="test"),
        optical=SLICE,
        radar=SENTINEL1.select(()),
        losses=losses,
    )


def batch(size: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        degraded=torch.rand(size, 1, 4, 6, generator=generator),
        target=torch.rand(size, 1, 16, 24, generator=generator),
        valid=torch.ones(size, 1, 16, 24, dtype=torch.bool),
        key=tuple(f"slice {i}" for i in range(size)),
    )


def test_a_network_that_sees_through_the_noise_gives_its_image_in_any_number_of_steps() -> None:
    given = batch()
    for sampling in ({"steps": 1}, {"steps": 7}, {"steps": 5, "eta": 1.0}, {"steps": 4, "solver": "heun"}):
        restored = method(**sampling).restore(given)
        torch.testing.assert_close(restored, enlarge(given.degraded, 4).clamp(0, 1), rtol=0, atol=1e-5)


def test_image_terms_compare_the_estimate_in_the_range_of_images() -> None:
    given = batch()
    wanted = (enlarge(given.degraded, 4).clamp(0, 1) - given.target).abs().mean()
    terms = method().loss(given, torch.Generator().manual_seed(1))
    torch.testing.assert_close(terms["l1"], wanted)
    torch.testing.assert_close(terms["total"], wanted)


def test_denoise_compares_what_the_network_returns() -> None:
    given = batch()
    found = method(losses={"denoise": (2.0, None)}).loss(given, torch.Generator().manual_seed(1))
    wanted = 2 * (2 * (enlarge(given.degraded, 4).clamp(0, 1) - given.target)).square().mean()
    torch.testing.assert_close(found["denoise"], wanted)


def test_times_drawn_by_importance_leave_the_expected_loss_as_it_is() -> None:
    given = batch(8)
    even, drawn = method(), method(importance=0.9)
    wanted = even.loss(given)["total"]
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([drawn.loss(given, generator)["total"].detach() for _ in range(40)]).mean()
    # The network errs alike at all times, so only the weights can change the mean.
    torch.testing.assert_close(found, wanted.detach(), rtol=0.03, atol=0)
    assert not drawn.times.squares.eq(1).all()


def test_a_learned_schedule_samples_at_the_times_that_training_found_hard() -> None:
    learned = method(importance=0.9, learned_schedule=True, steps=2)
    learned.times.squares = torch.where(torch.arange(32) < 24, 1.0, 9.0)
    learned.restore(batch())
    levels = torch.stack([level[0] for level in learned.network.levels])
    # Of two steps with equal shares of the loss, the second begins after three quarters of the path.
    wanted = learned.path.noise_level(torch.tensor([1.0, 0.75], dtype=torch.float64))
    torch.testing.assert_close(levels, wanted.float())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "set method.importance to 0.9, or learned_schedule to false"),
        ({"importance": 0.5, "path": {"tells": "step"}}, "method.path.tells is step, which fixes the times"),
        (
            {"importance": 0.5, "path": {"name": "rectified_flow", "shift": 2.0}},
            "method.path.shift is 2.0, which fixes the times",
        ),
    ],
)
def test_a_schedule_that_cannot_be_learned_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        method(learned_schedule=True, **options)


def test_validation_weighs_times_drawn_by_importance_and_learns_nothing_from_them() -> None:
    given, generator = batch(8), torch.Generator().manual_seed(0)
    even, drawn = method(), method(importance=0.9)
    even.network, drawn.network = Late(), Late()
    drawn.times.squares = torch.linspace(0.1, 4, len(drawn.times.squares)) ** 2
    before = drawn.times.squares.clone()
    with torch.no_grad():
        wanted, found = (
            torch.stack([each.loss(given, generator)["total"] for _ in range(200)]).mean()
            for each in (even, drawn)
        )
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0)
    assert drawn.times.squares.equal(before)


def test_gradients_reach_the_network() -> None:
    trained = method()
    trained.loss(batch())["total"].backward()
    assert trained.network.weight.grad.abs() > 0


def test_noise_follows_from_the_key_alone() -> None:
    noisy = method(steps=1, eta=0.0)
    seen: list[Tensor] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].clone())

    noisy.network.register_forward_hook(remember)
    given = batch()
    noisy.restore(given)
    one = replace(given, **{name: image[1:] for name, image in given.images().items()}, key=given.key[1:])
    noisy.restore(one)
    assert seen[1].equal(seen[0][1:])
    noisy.restore(one, keyed_noise(one.key, 16, 24, sample=1))
    assert not seen[2].equal(seen[1])


def test_a_batch_without_target_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="slice 0 has no target"):
        method().loss(replace(batch(), target=None))


class Late(Enlarged):
    """Errs the more, the less of the image is left."""

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        return super().forward(x_t, c_noise, condition) + 5 * (1 - c_noise.view(-1, 1, 1, 1))


class Straight(nn.Module):
    """Says that the image is its condition, and remembers what it was given."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, Condition]] = []

    def forward(self, x_t: Tensor, _: Tensor, condition: Condition) -> Tensor:
        assert condition.degraded is not None
        assert x_t.shape == condition.degraded.shape
        self.seen.append((x_t, condition))
        return self.weight * condition.degraded


def coder(*, optical: tuple[str, ...] = (), radar: tuple[str, ...] = ()) -> Latents:
    torch.manual_seed(0)
    sizes = {"width": 8, "multipliers": (1, 2), "num_blocks": 1, "groups": 4, "attention": False}
    network = autoencoder.build(autoencoder.Config(bands=len(optical or radar), latent_channels=3, **sizes))
    return Latents(
        Autoencoding(
            network,
            AutoencodingConfig(),
            optical=SENTINEL2.select(optical),
            radar=SENTINEL1.select(radar),
            losses={},
        )
    )


def latent(**options: Any) -> Generative:
    """Return a method of latents; what are no parts of it are options of its config."""
    parts: dict[str, Any] = {
        "losses": {"denoise": (1.0, None)},
        "space": coder(optical=BANDS),
        "sar_space": coder(radar=("VV", "VH")),
    }
    parts |= {name: options.pop(name) for name in (*parts, "texts") if name in options}
    config = {"path": {"name": "rectified_flow"}, "prediction": "image", "steps": 2, **options}
    return Generative(
        Straight(),
        parse(GenerativeConfig, config, where="test"),
        optical=SENTINEL2.select(BANDS),
        radar=SENTINEL1,
        **parts,
    )


def cloudy(size: int = 2) -> Batch:
    draw = torch.Generator().manual_seed(0)
    return Batch(
        degraded=torch.rand(size, 3, 8, 12, generator=draw),
        target=torch.rand(size, 3, 8, 12, generator=draw),
        sar=torch.rand(size, 2, 8, 12, generator=draw),
        cloud=torch.rand(size, 1, 8, 12, generator=draw),
        valid=torch.ones(size, 1, 8, 12, dtype=torch.bool),
        key=tuple(f"patch {i}" for i in range(size)),
    )


def last_seen(method: Generative) -> tuple[Tensor, Condition]:
    assert isinstance(method.network, Straight)
    return method.network.seen[-1]


def test_latent_images_come_back_as_images() -> None:
    given = cloudy()
    for start in ("noise", "degraded"):
        method = latent(start=start)
        with torch.no_grad():
            wanted = method.space.decode(method.space.encode(given.degraded)).clamp(0, 1)
        torch.testing.assert_close(method.restore(given), wanted)
        assert method.stride == 4


def test_a_degraded_start_is_the_degraded_latents_plus_a_little_noise() -> None:
    given, method = cloudy(), latent(start="degraded", start_noise=0.25, steps=1)
    noise = keyed_noise(given.key, 8, 12)
    method.restore(given, noise)
    x, condition = last_seen(method)
    torch.testing.assert_close(x, condition.degraded + 0.25 * noise(0, 3, 2))


def test_training_goes_the_way_that_sampling_comes_back() -> None:
    given = cloudy()
    for start, wanted in (("noise", 0.0), ("degraded", 1.0)):
        method = latent(start=start, start_noise=1e-6)
        encoded = method.encode(given)
        method.times.draw = lambda count, generator: (torch.ones(count), torch.ones(count))  # type: ignore[method-assign]
        method.loss(given, torch.Generator().manual_seed(0))
        x, _ = last_seen(method)
        likeness = torch.corrcoef(torch.stack([x.flatten(), encoded.degraded.flatten()]))[0, 1]
        assert abs(likeness - wanted) < 0.2


def test_the_estimate_is_compared_as_an_image_and_moves_the_network_alone() -> None:
    given, method = cloudy(), latent(losses={"l1": (1.0, l1)})
    terms = method.loss(given, torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = (method.space.decode(method.space.encode(given.degraded)) - given.target).abs().mean()
    torch.testing.assert_close(terms["l1"], wanted)
    terms["total"].backward()
    assert method.network.weight.grad.abs() > 0
    assert not any(
        weight.grad is not None for part in method.autoencoders.values() for weight in part.parameters()
    )


def test_without_radar_the_network_sees_what_null_says() -> None:
    given, method = cloudy(), latent(radar_optional=True)
    gap = given.sar.clone()
    gap[0] = torch.nan
    gap[1, :, :, 7:] = torch.nan
    method.restore(replace(given, sar=gap))
    _, condition = last_seen(method)
    assert condition.sar[0].eq(0).all()
    assert condition.sar[1, :, :, 3:].eq(0).all()
    assert condition.sar[1, :, :, :3].ne(0).any()
    assert condition.cloud.equal(given.cloud)
    method.restore(replace(given, sar=None))
    assert last_seen(method)[1].sar is None


@pytest.mark.parametrize("sar", [None, torch.full((2, 2, 8, 12), torch.nan)])
def test_radar_that_is_needed_is_asked_for(sar: Tensor | None) -> None:
    given = replace(cloudy(), sar=sar)
    for call in (latent().restore, latent().loss):
        with pytest.raises(ValueError, match="patch 0 has pixels without radar, and this model needs it"):
            call(given)


def test_clouds_are_looked_for_where_there_is_no_map() -> None:
    given, method = replace(cloudy(), cloud=None), latent()
    method.restore(given)
    assert last_seen(method)[1].cloud.equal(cloud_score(given.degraded, BANDS))


def test_the_condition_is_dropped_in_training_alone() -> None:
    given = cloudy(1)
    many = Batch.cat([replace(given, key=(f"patch {i}",)) for i in range(200)])
    method = latent(drop_condition=0.3, sar_space=Pixels(2), space=Pixels(3))
    method.loss(many, torch.Generator().manual_seed(0))
    _, condition = last_seen(method)
    lost = condition.degraded.flatten(1).eq(0).all(1)
    assert abs(lost.float().mean() - 0.3) < 0.1
    for image in (condition.sar, condition.cloud):
        assert image.flatten(1).eq(0).all(1).equal(lost)
    method.network.eval()
    for call in (method.loss, method.restore):
        call(many)
        assert last_seen(method)[1].degraded.flatten(1).ne(0).any(1).all()


def test_clouds_weigh_more_and_invalid_pixels_nothing() -> None:
    given = cloudy(1)
    cloud = torch.zeros(1, 1, 8, 12)
    cloud[..., :6] = 1
    valid = given.valid.clone()
    valid[..., 4:6, :] = False
    given = replace(given, cloud=cloud, valid=valid)
    method = latent(cloud_weight=2.0)
    encoded = method.encode(given)
    error = (encoded.degraded - encoded.x0).square().mean(1)  # (1, 4, 6)
    error = error[:, [0, 1, 3]]
    wanted = (3 * error[..., :3].mean() + error[..., 3:].mean()) / 4
    torch.testing.assert_close(method.loss(given)["denoise"], wanted.detach())


def test_encoded_samples_cost_what_their_images_do() -> None:
    given = cloudy()
    for importance in (0.0, 0.5):
        first, second = (latent(importance=importance, drop_condition=0.5) for _ in range(2))
        terms = first.loss(given, torch.Generator().manual_seed(4))
        encoded = second.encode(given)
        assert second.loss(encoded, torch.Generator().manual_seed(4))["total"].equal(terms["total"])
    with pytest.raises(
        ValueError, match="patch 0 is encoded, so only the loss denoise can be computed of it"
    ):
        latent(losses={"l1": (1.0, l1)}).loss(encoded)


def test_times_are_moved_for_the_number_of_tokens() -> None:
    method = latent()
    method.path = RectifiedFlow(prediction="image", shift="auto")
    method.times.draw = lambda count, generator: (torch.full((count,), 0.5), torch.ones(count))  # type: ignore[method-assign]
    given = cloudy()
    method.loss(given, torch.Generator().manual_seed(1))
    x, _ = last_seen(method)
    encoded = method.encode(given)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    t = 1 / (1 + math.exp(-time_shift(2 * 3)))
    torch.testing.assert_close(x, torch.lerp(encoded.x0, noise, t))


def test_parts_that_contradict_each_other_are_refused_before_training() -> None:
    with pytest.raises(InputError, match=r"eta is 0\.5, but .* Heun's method.*leave out method\.eta"):
        method(steps=3, eta=0.5, solver="heun")
    with pytest.raises(
        InputError, match=r"start is degraded, which needs .* eta 0, found rectified_flow and 1"
    ):
        latent(start="degraded", steps=3, eta=1.0)
    with pytest.raises(InputError, match=r"method\.residual is 12, but .* whole ones; set it to 0"):
        latent(residual=12.0, start="degraded")


def test_more_steps_than_the_path_has_are_refused_before_training() -> None:
    with pytest.raises(InputError, match=r"method\.steps: .*21"):
        method(steps=21)


def test_what_only_adds_to_the_enlarged_input_takes_any_tile_and_bf16() -> None:
    whole, adding = method(), method(residual=12.0)
    assert (whole.any_tile, whole.prefers_bf16, whole.tile) == (False, False, 256)
    assert (adding.any_tile, adding.prefers_bf16, adding.tile) == (True, True, 384)
