import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import pytest
import torch
from torch import Tensor, nn

from pellucid.apply.options import ApplyOptions
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL1, SENTINEL2, ValueRange
from pellucid.errors import InputError
from pellucid.evaluation.trial import NO_GUIDES, NO_OLDER, NO_RADAR, Setup, Trial, ablate
from pellucid.generative.noise import Noise
from pellucid.methods.method import Estimate, Method

BANDS = ("B02", "B03", "B04", "B08")


class Guided(Method):
    """Adds to its input 0.01 where there is radar, and 0.02 where there is an older date; 0.1 unsure."""

    stride = 8
    any_bands = takes_older = finds_clouds = gives_deviation = True

    def __init__(self, bands: tuple[str, ...] = BANDS) -> None:
        self.network, self.losses = nn.Identity(), {}
        self.optical, self.radar = SENTINEL2.select(bands), SENTINEL1
        self.seen: list[Batch] = []

    def loss(self, batch: Batch, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        raise NotImplementedError

    def restore(
        self,
        batch: Batch,
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
    ) -> Tensor:
        return self.estimate(batch).image

    def estimate(
        self,
        batch: Batch,
        noise: Noise | None = None,  # noqa: ARG002
        progress: Callable[[int, int], None] | None = None,  # noqa: ARG002
        *,
        with_deviation: bool = True,  # noqa: ARG002
    ) -> Estimate:
        assert batch.degraded.shape[1] == len(self.optical.bands)
        assert not any(side % self.stride for side in batch.valid.shape[-2:])
        self.seen.append(batch)
        image = batch.degraded
        for guide, value in ((batch.sar, 0.01), (batch.older, 0.02)):
            if guide is not None:
                image = image + value * guide.isfinite().any(1, keepdim=True)
        cloud = torch.ones_like(image[:, :1]) if batch.cloud is None else batch.cloud
        return Estimate(image, torch.full_like(image, 0.1), cloud)

    def with_bands(self, optical: ValueRange) -> Self:
        other = copy.copy(self)
        other.optical = optical
        return other


def make_patch(size: tuple[int, int] = (20, 24), num_bands: int = 4) -> Batch:
    """A patch with every guide, whose upper half is under cloud."""
    target = torch.rand(1, num_bands, *size, generator=torch.Generator().manual_seed(0)) * 0.3
    cloud = torch.zeros(1, 1, *size)
    cloud[..., : size[0] // 2, :] = 1
    return Batch(
        degraded=torch.maximum(target, 0.5 * cloud),
        target=target,
        sar=torch.full((1, 2, *size), 0.5),
        older=target.clone(),
        cloud=cloud,
        valid=torch.ones(1, 1, *size, dtype=torch.bool),
        key=("patch",),
    )


def trial(method: Method, **setup: object) -> Trial:
    return Trial(method, ApplyOptions(device="cpu"), Setup(**setup))  # type: ignore[arg-type]


def test_each_guide_is_taken_away_and_then_both() -> None:
    patch = make_patch()
    restored = trial(Guided()).restore(patch)
    torch.testing.assert_close(restored.estimate.image, patch.degraded + 0.03)
    assert list(restored.ablated) == [NO_RADAR, NO_OLDER, NO_GUIDES]
    for source, added in ((NO_RADAR, 0.02), (NO_OLDER, 0.01), (NO_GUIDES, 0.0)):
        torch.testing.assert_close(restored.ablated[source], patch.degraded + added)


def test_where_memory_is_short_fewer_patches_go_together_and_one_is_refused_rightly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most, patches = 2, [make_patch() for _ in range(5)]
    estimate = Guided.estimate

    def allocate(self: Guided, batch: Batch, *args: object, **kwargs: object) -> Estimate:
        if len(batch) > most:
            raise MemoryError
        return estimate(self, batch, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Guided, "estimate", allocate)
    found = trial(Guided(), batch=5).restore_all(patches)
    assert len(found) == 5
    for each in found:
        torch.testing.assert_close(each.estimate.image, patches[0].degraded + 0.03)
    most = 0
    with pytest.raises(
        InputError, match=r"too little memory for a tile of 24 px; .*evaluate --crop"
    ) as error:
        trial(Guided()).restore(patches[0])
    assert "--tile" not in str(error.value)


def test_only_guides_that_are_there_and_can_be_spared_are_taken_away() -> None:
    patch, method = make_patch(), Guided()
    assert set(ablate(method, replace(patch, older=None))) == {NO_RADAR}
    assert set(ablate(method, replace(patch, sar=torch.full_like(patch.sar, torch.nan)))) == {NO_OLDER}
    method.radar_optional = False
    assert set(ablate(method, patch)) == {NO_OLDER}


def test_guides_are_kept_on_demand_and_by_methods_without_older_dates() -> None:
    assert not trial(Guided(), ablate_guides=False).restore(make_patch()).ablated
    method = Guided()
    method.takes_older = False
    assert not trial(method).restore(make_patch()).ablated
    assert set(trial(method, ablate_guides=True).restore(make_patch()).ablated) == {NO_RADAR}


def test_a_method_that_finds_clouds_gets_the_cloud_map_on_demand_alone() -> None:
    for given in (False, True):
        method, patch = Guided(), make_patch()
        restored = trial(method, given_clouds=given).restore(patch)
        assert all((batch.cloud is not None) == given for batch in method.seen)
        assert restored.batch.cloud is patch.cloud  # for the figures
    method = Guided()
    method.finds_clouds = False
    trial(method).restore(make_patch())
    assert all(batch.cloud is not None for batch in method.seen)


def test_some_bands_are_selected_in_the_order_asked_for() -> None:
    patch = make_patch()
    restored = trial(Guided(), bands=("B08", "B02")).restore(patch)
    assert restored.method.optical.bands == ("B08", "B02")
    assert restored.positions == (3, 0)
    torch.testing.assert_close(restored.batch.target, patch.target[:, [3, 0]])
    torch.testing.assert_close(restored.batch.older, patch.older[:, [3, 0]])
    torch.testing.assert_close(restored.estimate.image, patch.degraded[:, [3, 0]] + 0.03)


def test_bands_that_a_patch_lacks_are_left_out_and_scattered_gaps_become_invalid() -> None:
    patch = make_patch()
    patch.degraded[:, 1] = torch.nan
    patch.target[:, 1] = torch.nan
    patch.target[:, 2, 3, 4] = torch.nan
    restored = trial(Guided()).restore(patch)
    assert restored.method.optical.bands == ("B02", "B04", "B08")
    assert restored.batch.degraded.isfinite().all()
    assert restored.batch.target.isfinite().all()
    assert (~restored.batch.valid).nonzero().tolist() == [[0, 0, 3, 4]]


def test_the_estimate_has_the_size_of_the_patch() -> None:
    restored = trial(Guided()).restore(make_patch((17, 30)))
    assert [tuple(image.shape[-2:]) for image in restored.estimate] == [(17, 30)] * 3


def test_what_does_not_apply_is_refused() -> None:
    plain = Guided()
    plain.any_bands = plain.finds_clouds = plain.takes_older = plain.radar_optional = False
    for setup, words in (
        ({"bands": ("B02",)}, "--bands is for models for any bands, this one is for B02, B03, B04, B08"),
        ({"given_clouds": True}, "--given-clouds is for models that find clouds themselves"),
        ({"ablate_guides": True}, "--ablate-guides is for models that can do without"),
    ):
        with pytest.raises(InputError, match=words):
            trial(plain, **setup)
    with pytest.raises(InputError, match="--bands has B99, known are B02, B03, B04, B08"):
        trial(Guided(), bands=("B02", "B99"))
    with pytest.raises(InputError, match="--bands has B02 twice"):
        trial(Guided(), bands=("B02", "B02"))
    patch = make_patch()
    patch.degraded[:, 1] = torch.nan
    plain.radar_optional = True
    with pytest.raises(InputError, match="patch lacks B03, which this model needs"):
        trial(plain).restore(patch)
    with pytest.raises(InputError, match="patch has none of the bands B03"):
        trial(Guided(), bands=("B03",)).restore(patch)


def test_what_is_no_number_is_refused() -> None:
    class Broken(Guided):
        def estimate(self, batch: Batch, *_: object, **__: object) -> Estimate:
            return Estimate(batch.degraded, torch.full_like(batch.degraded, torch.nan))

    with pytest.raises(InputError, match="the model gave no number at patch in fp32"):
        trial(Broken()).restore(make_patch())
