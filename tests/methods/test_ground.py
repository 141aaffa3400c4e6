from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2, ValueRange
from pellucid.errors import InputError
from pellucid.methods.ground import LEAST_SURE, Ground, GroundConfig
from pellucid.networks._clearness import Clear, Seen
from pellucid.networks.ground import Config, Painted, Solution, build
from pellucid.simulate.landscape import make_scene

TINY = Config(features=6, widths=(8, 12), clear_widths=(8, 8), detail=4, refine=8)
RGBN = SENTINEL2.select(("B04", "B03", "B02", "B08"))


def method(**options: object) -> Ground:
    torch.manual_seed(0)
    config = GroundConfig.model_validate(options)
    return Ground(build(TINY).eval(), config, optical=SENTINEL2, radar=SENTINEL1)  # type: ignore[arg-type]


def batch(size: int = 32, *, number: int = 1, bands: int = 13, cloudy: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(1)
    target = 0.03 + 0.05 * torch.rand(number, bands, size, size, generator=generator)
    degraded, cloud = target.clone(), torch.zeros(number, 1, size, size)
    if cloudy:
        degraded[..., size // 2 :] = 0.7
        cloud[..., size // 2 :] = 1
    sar = torch.rand(number, 2, size, size, generator=generator)
    valid = torch.ones(number, 1, size, size, dtype=torch.bool)
    keys = tuple(f"place_{i}" for i in range(number))
    return Batch(degraded=degraded, target=target, sar=sar, cloud=cloud, valid=valid, key=keys)


def test_surely_clear_pixels_pass_through_bit_by_bit() -> None:
    image = batch()
    found = method().estimate(image)
    assert found.cloud is not None
    assert found.deviation is not None
    clear = found.cloud[0, 0] == 0
    assert clear[:, :16].all()
    assert not clear[:, 16:].any()
    assert torch.equal(found.image[0][:, clear], image.degraded[0][:, clear])
    assert not found.deviation[0][:, clear].any()
    assert (found.deviation[0][:, ~clear] > 0).all()


def test_result_does_not_depend_on_what_is_under_a_given_cloud() -> None:
    image = batch()
    other = image.degraded.clone()
    other[..., 16:] = 0.3
    ours = method()
    torch.testing.assert_close(ours.restore(image), ours.restore(replace(image, degraded=other)))


@pytest.mark.parametrize("bands", [SENTINEL2.bands[::-1], RGBN.bands, ("B02", "B03", "B04", "B8A", "B11")])
def test_bands_come_in_any_order_and_number(bands: tuple[str, ...]) -> None:
    at = [SENTINEL2.bands.index(band) for band in bands]
    image = batch()
    fewer = replace(image, degraded=image.degraded[:, at], target=None, cloud=None)
    found = method().with_bands(SENTINEL2.select(bands)).estimate(fewer)
    assert found.image.shape == fewer.degraded.shape
    if len(bands) == 13:
        whole = method().restore(replace(image, cloud=None))
        torch.testing.assert_close(found.image, whole[:, at])


def test_near_infrared_that_is_missing_is_seen_as_a_mean_of_others() -> None:
    ours, image = method(), replace(batch(), cloud=None)
    one, two = ("B02", "B03", "B04", "B8A"), ("B02", "B03", "B04", "B08")
    colours = image.degraded[:, [SENTINEL2.bands.index(band) for band in one]]
    filled = torch.cat([colours[:, :3], 0.8 * colours[:, 3:] + 0.2 * colours[:, 2:3]], 1)
    found = ours.with_bands(SENTINEL2.select(one)).inside(replace(image, degraded=colours))
    wanted = ours.with_bands(SENTINEL2.select(two)).inside(replace(image, degraded=filled))
    torch.testing.assert_close(found[1].confidence, wanted[1].confidence)


def test_mean_of_a_band_that_an_image_lacks_is_not_known() -> None:
    bands = ("B02", "B03", "B04", "B8A")
    colours = batch().degraded[:, [SENTINEL2.bands.index(band) for band in bands]]
    colours[:, 3] = torch.nan
    image = replace(batch(), degraded=colours, target=None, cloud=None)
    known = method().with_bands(SENTINEL2.select(bands)).inside(image)[0].known[0]
    assert [SENTINEL2.bands[i] for i in known[:13].nonzero()[:, 0]] == ["B02", "B03", "B04"]


def test_other_sensors_need_a_cloud_map_or_blue_and_red() -> None:
    pan = ValueRange(("pan", "nir"), (0.0, 0.0), (1.0, 1.0), "reflectance", "a test")
    ours, image = method().with_bands(pan), batch(bands=2)
    assert ours.restore(image).shape == (1, 2, 32, 32)
    with pytest.raises(InputError, match="give a cloud map"):
        ours.restore(replace(image, cloud=None))


def test_scene_of_unknown_bands_without_clear_ground_is_refused() -> None:
    pan = ValueRange(("pan", "nir"), (0.0, 0.0), (1.0, 1.0), "reflectance", "a test")
    ours, image = method().with_bands(pan), batch(bands=2)
    covered = replace(image, cloud=torch.ones(1, 1, 32, 32), at=((0, 0),))
    with pytest.raises(InputError, match="no clear ground"):
        ours.with_scene(ours.collect(covered, torch.ones(1, 1, 32, 32)))


def test_tiles_collect_what_the_whole_does_in_any_order() -> None:
    ours, image = method(), replace(batch(64), at=((0, 0),))
    whole = ours.collect(image, torch.ones(1, 1, 64, 64))
    first, second = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    first[..., :20, :] = 1
    second[..., :20, :] = 0
    parts = [ours.collect(image, share) for share in (second, first)]
    (one,), (two,) = whole.cells.values(), (parts[0] + parts[1]).cells.values()
    torch.testing.assert_close(one[0].gram, two[0].gram)
    restored = [ours.with_scene(scene).restore(image) for scene in (whole, parts[1] + parts[0])]
    torch.testing.assert_close(*restored, rtol=1e-4, atol=1e-5)


def test_tile_under_cloud_is_painted_in_the_colours_of_its_scene() -> None:
    ours, clear = method(), replace(batch(32, cloudy=False), at=((0, 0),))
    bright = replace(clear, degraded=clear.degraded * 0 + 0.1)
    scene = ours.collect(bright, torch.ones(1, 1, 32, 32))
    covered = replace(clear, degraded=clear.degraded * 0 + 0.8, cloud=torch.ones(1, 1, 32, 32), at=((0, 32),))
    painted = ours.with_scene(scene).restore(covered)
    assert (painted - 0.1).abs().mean() < (ours.restore(covered) - 0.1).abs().mean() / 3


def test_loss_trains_on_hidden_parts_and_on_clouds_with_any_bands() -> None:
    image = batch(number=2)
    hidden = replace(image, degraded=image.degraded * (1 - image.cloud if image.cloud is not None else 1))
    ours = method(drop_bands=0.5)
    for sample in (hidden, image):
        terms = ours.loss(sample, torch.Generator().manual_seed(0))
        assert set(terms) == {
            "painted",
            "solved",
            "restored",
            "cloudy",
            "clear",
            "clearness",
            "haze",
            "deviation",
            "bounded",
            "total",
        }
        terms["total"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in ours.network.parameters())
    assert not ours.loss(hidden)["restored"]
    assert ours.loss(image)["restored"]


def test_training_judges_what_is_clear_as_restoring_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, image, judged = method(drop_bands=0.0), batch(number=2), []
    paint = ours.network.paint

    def watched(seen: Seen, clear: Clear, *rest: object) -> Painted:
        judged.append(clear)
        return paint(seen, clear, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ours.network, "paint", watched)
    ours.loss(image)
    ours.estimate(replace(image, cloud=None))
    assert image.cloud is not None
    hidden = image.degraded * torch.stack([1 - image.cloud[0], torch.ones(1, 32, 32)])
    ours.loss(replace(image, degraded=hidden, cloud=torch.cat([image.cloud[:1], image.cloud[1:] * 0.9])))
    first, second, mixed = judged
    for one, two, three in zip(first, second, mixed, strict=True):
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one[1], three[1])
    assert torch.equal(mixed.confidence[0], 1 - image.cloud[0])


def test_loss_wants_clear_ground_of_the_same_day_as_it_is() -> None:
    clear = batch(cloudy=False)
    terms = method().loss(clear)
    assert terms["restored"]
    assert terms["clear"]
    assert not terms["cloudy"]
    other_day = replace(clear, degraded=clear.degraded + 0.1)
    terms = method().loss(other_day)
    assert terms["restored"]
    assert not terms["clear"]


def test_deviation_says_that_what_is_kept_may_be_cloud() -> None:
    class Doubtful(Ground):
        def inside(self, batch: Batch) -> tuple[Seen, Clear, Tensor, Solution, Painted]:
            seen, clear, features, solution, painted = super().inside(batch)
            return seen, clear, features, solution, painted._replace(confidence=0 * seen.valid + confidence)

    image = batch(cloudy=False)
    ours = method()
    doubtful = Doubtful(ours.network, ours.config, optical=SENTINEL2, radar=SENTINEL1)
    found = {}
    for confidence in (1.0, 0.9, 0.5, 0.0):
        estimate = doubtful.estimate(image)
        assert estimate.deviation is not None
        found[confidence] = float(estimate.deviation.mean())
    assert found[1.0] == 0
    assert 0 < found[0.9] < found[0.5]
    assert found[0.0] > 0


def test_deviation_is_multiplied_by_the_factors_of_the_config() -> None:
    def deviation(factors: tuple[float, float], image: Batch) -> Tensor:
        found = method(deviation_factors=factors).estimate(image).deviation
        assert found is not None
        return found[..., 16:]

    partly = batch()
    overcast = replace(partly, cloud=torch.ones_like(partly.valid, dtype=torch.float32))
    torch.testing.assert_close(deviation((2.0, 2.0), partly), 2 * deviation((1.0, 1.0), partly))
    ratios = [deviation((1.0, 3.0), image) / deviation((1.0, 1.0), image) for image in (partly, overcast)]
    assert 1 <= ratios[0].mean() < ratios[1].mean() <= 3


def test_the_picture_is_the_same_whether_its_deviation_is_wanted_or_not() -> None:
    image = batch()
    ours = method()
    assert torch.equal(ours.estimate(image).image, ours.restore(image))


def without_cirrus(image: Batch) -> Batch:
    """The batch without a cloud map, and dark in B10, where random values would be cirrus."""
    degraded = image.degraded.clone()
    degraded[:, SENTINEL2.bands.index("B10")] = 0.001
    return replace(image, degraded=degraded, cloud=None)


def judged(image: Batch, looks: Clear, monkeypatch: pytest.MonkeyPatch) -> Clear:
    ours = method()
    monkeypatch.setattr(ours.network, "judge", lambda _: looks)
    return ours._judge(image, ours._seen(image))


def looks_like(confidence: float, log_variance: float) -> Clear:
    """Worth nothing, with colours of 0.2."""
    one = torch.ones(1, 1, 32, 32)
    colours = torch.full((1, 13, 32, 32), 0.2)
    return Clear(confidence * one, 0 * one, colours, torch.full_like(colours, log_variance))


def test_what_surely_is_clear_counts_wholly_with_the_colour_that_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = without_cirrus(batch(cloudy=False))
    found = judged(image, looks_like(0.96, 0.0), monkeypatch)
    assert torch.equal(found.worth, torch.ones(1, 1, 32, 32))
    torch.testing.assert_close(found.colours, image.degraded)


def test_what_may_be_clear_counts_in_part_even_if_its_colour_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = judged(without_cirrus(batch(cloudy=False)), looks_like(0.5, 0.0), monkeypatch)
    torch.testing.assert_close(found.worth, torch.full((1, 1, 32, 32), LEAST_SURE * 0.5 / 2))
    assert torch.equal(found.colours, torch.full((1, 13, 32, 32), 0.2))


def test_clouds_of_the_built_in_score_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(without_cirrus(batch()), looks_like(1.0, -12.0), monkeypatch)
    assert not found.worth[..., 17:].any()
    assert not found.confidence[..., 17:].any()
    assert (found.worth[..., :8] > 0.5).float().mean() > 0.8  # some lies in the shadow of the cloud


@pytest.mark.parametrize(("seed", "guided"), [(3, True), (1, False)])
def test_clear_land_larger_than_the_crops_of_the_training_stays_as_it_is(seed: int, guided: bool) -> None:
    scene, ours = make_scene(512, seed=seed), load("ground")
    image = scene.optical[None]
    sar = SENTINEL1.to_unit(scene.radar_db)[None] if guided else None
    valid = torch.ones_like(image[:, :1], dtype=torch.bool)
    restored = ours.restore(Batch(degraded=image, sar=sar, valid=valid, key=("land",)))
    changed = ((restored - image).abs().amax(1) > 0.001).float().mean()
    assert changed < 0.03
