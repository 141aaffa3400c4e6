import pytest
from tests.apply.test_joint_tiles import Local, method
from tests.painters import Painter

from pellucid.apply.engine import choose_sampling
from pellucid.apply.options import PictureOptions
from pellucid.errors import InputError
from pellucid.generative.path import RectifiedFlow
from pellucid.methods.generative import Generative


@pytest.mark.parametrize(
    ("sampler", "expected"), [("ddpm", (1.0, "euler")), ("ddim", (0.0, "euler")), ("dpm++", (0.0, "dpm++"))]
)
def test_each_sampler_is_a_solver_and_its_noise(sampler: str, expected: tuple[float, str]) -> None:
    options = PictureOptions(sampler=sampler, steps=7, strength=0.8)  # type: ignore[arg-type]
    for eta, solver in ((1.0, "euler"), (0.0, "heun")):
        chosen = choose_sampling(method(Local(), eta=eta, solver=solver), options)
        assert isinstance(chosen, Generative)
        assert (chosen.sampling.eta, chosen.sampling.solver) == expected
        assert (chosen.sampling.steps, chosen.sampling.strength) == (7, 0.8)


def test_without_options_a_method_samples_as_it_does() -> None:
    given = method(Local(), eta=1.0)
    assert choose_sampling(given, PictureOptions()) is given


def test_samplers_that_a_method_has_no_place_for_are_refused() -> None:
    with pytest.raises(InputError, match="takes no steps; leave out --sampler"):
        choose_sampling(Painter(), PictureOptions(sampler="ddim"))
    from_radar = method(Local(), RectifiedFlow("image"))
    from_radar.start_noise = 0.1
    with pytest.raises(InputError, match="choose another --sampler than ddpm"):
        choose_sampling(from_radar, PictureOptions(sampler="ddpm"))
