"""The prior of broad colours in the colorizer that ships: kept by its run, tiled with it, and optional."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from pellucid.apply.joint_tiles import Tiling, tiled
from pellucid.build.method import load
from pellucid.build.parts import read_prior
from pellucid.build.run import read_run, save_run
from pellucid.data.batch import Batch
from pellucid.data.run_folder import find_run
from pellucid.errors import InputError
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.sampling import with_sampling
from pellucid.methods.tones import expected_tone

NAME = "sar_color"


@pytest.fixture(scope="module")
def method() -> Generative:
    found = load(NAME, device="cpu")
    assert isinstance(found, Generative)
    return found


def colorizer(radar: tuple[str, ...] = ("VV",), prior: str = "") -> GenerativeConfig:
    return GenerativeConfig(optical=("R", "G", "B"), radar=radar, prior=prior)


def lake(side: int = 128) -> Batch:
    """Return speckled land with a dark lake in its middle."""
    generator = torch.Generator().manual_seed(0)
    speckle = torch.empty(1, 1, side, side).exponential_(generator=generator).sqrt()
    sar = (0.25 * speckle).clamp(0, 1)
    sar[..., side // 4 : -side // 4, side // 4 : -side // 4] = 0
    grey, valid = sar.expand(-1, 3, -1, -1), torch.ones_like(sar, dtype=torch.bool)
    return Batch(degraded=grey, sar=sar, valid=valid, key=("lake",), prompt=("Colorise image",))


def test_broad_colours_are_those_of_the_prior_and_a_lake_is_darker_than_land(method: Generative) -> None:
    batch = lake()
    assert method.prior is not None
    with torch.no_grad():
        broad = method.prior(batch.sar)
    alone = with_sampling(method, detail=0).restore(batch)
    assert alone.equal(broad)
    found = with_sampling(method, detail=2).restore(batch)
    torch.testing.assert_close(found.mean((2, 3)), broad.mean((2, 3)), atol=0.01, rtol=0)
    assert (found - broad).abs().max() > 0.005
    water, land = found[..., 48:80, 48:80].mean((0, 2, 3)), found[..., :16, :].mean((0, 2, 3))
    assert (water < land - 0.05).all()


def test_without_bound_all_is_drawn(method: Generative) -> None:
    batch = lake()
    drawn = with_sampling(method, detail=math.inf).restore(batch)
    assert not drawn.allclose(method.restore(batch), atol=0.02)
    plain = load(NAME, device="cpu")
    plain.prior = None
    assert plain.restore(batch).equal(drawn)
    with pytest.raises(InputError, match=r"there is no prior of broad colours; leave out --detail"):
        with_sampling(plain, detail=2)


def test_a_run_keeps_its_prior(method: Generative, tmp_path: Path) -> None:
    config, _, metadata = read_run(find_run(NAME))
    save_run(tmp_path / "run", config=config, method=method, half=True)
    again = load(tmp_path / "run", device="cpu")
    assert read_run(tmp_path / "run")[2].prior == metadata.prior
    batch = lake()
    assert again.restore(batch).equal(method.restore(batch))


def test_another_colorizer_takes_the_prior_of_a_run_that_has_one(method: Generative) -> None:
    prior = read_prior(colorizer(prior=NAME))
    assert method.prior is not None
    assert prior is not None
    for name, value in method.prior.state_dict().items():
        assert prior.state_dict()[name].equal(value)
    assert read_prior(colorizer()) is None
    with pytest.raises(InputError, match=r"method.prior: cloud_flow predicts no broad colours; name a run"):
        read_prior(colorizer(prior="cloud_flow"))


def test_the_prior_is_for_pictures_of_one_polarisation() -> None:
    with pytest.raises(ValidationError, match=r"method.prior is for pictures in colour .*; leave it out"):
        colorizer(radar=("VV", "VH"), prior=NAME)


def test_a_large_picture_is_predicted_as_one(method: Generative) -> None:
    batch = lake(384)
    assert method.prior is not None
    assert batch.sar is not None
    with torch.no_grad():
        broad = method.prior(batch.sar)
    wide = with_sampling(method, detail=0)
    assert tiled(wide, Tiling(256, 64)).restore(batch).equal(broad)


def test_the_tone_lies_between_that_of_similar_radar_and_of_the_prior(method: Generative) -> None:
    batch = lake()
    assert method.tones is not None
    assert batch.sar is not None
    likely = method.tones(batch.sar)
    halfway = [(one + 1) / 2 for one in likely]
    assert expected_tone(method, batch.sar, (1.0, 1.0, 1.0)) == pytest.approx(halfway)
    assert expected_tone(with_sampling(method, detail=math.inf), batch.sar, (1.0, 1.0, 1.0)) == likely
    plain = load(NAME, device="cpu")
    plain.prior = None
    assert expected_tone(plain, batch.sar, (1.0, 1.0, 1.0)) == likely
    plain.tones = None
    assert expected_tone(plain, batch.sar, (1.0, 1.0, 1.0)) is None
