import warnings
from dataclasses import replace

import pytest
from tests.apply.test_joint_tiles import Local, method
from tests.painters import Painter

from pellucid.apply.color_options import (
    ColorizeOptions,
    check_colorizer,
    check_takes_text,
    choose_sampling,
    warn_of_unknown,
)
from pellucid.data.ranges import SENTINEL1, SLICE
from pellucid.errors import InputError
from pellucid.generative.path import RectifiedFlow
from pellucid.methods.generative import Generative


@pytest.mark.parametrize(
    ("sampler", "expected"), [("ddpm", (1.0, "euler")), ("ddim", (0.0, "euler")), ("dpm++", (0.0, "dpm++"))]
)
def test_each_sampler_is_a_solver_and_its_noise(sampler: str, expected: tuple[float, str]) -> None:
    options = ColorizeOptions(sampler=sampler, steps=7, strength=0.8)  # type: ignore[arg-type]
    for eta, solver in ((1.0, "euler"), (0.0, "heun")):
        chosen = choose_sampling(method(Local(), eta=eta, solver=solver), options)
        assert isinstance(chosen, Generative)
        assert (chosen.sampling.eta, chosen.sampling.solver) == expected
        assert (chosen.sampling.steps, chosen.sampling.strength) == (7, 0.8)


def test_without_options_a_method_samples_as_it_does() -> None:
    given = method(Local(), eta=1.0)
    assert choose_sampling(given, ColorizeOptions()) is given


def test_samplers_that_a_method_has_no_place_for_are_refused() -> None:
    with pytest.raises(InputError, match="takes no steps; leave out --sampler"):
        choose_sampling(Painter(), ColorizeOptions(sampler="ddim"))
    from_radar = method(Local(), RectifiedFlow("image"))
    from_radar.start_noise = 0.1
    with pytest.raises(InputError, match="choose another --sampler than ddpm"):
        choose_sampling(from_radar, ColorizeOptions(sampler="ddpm"))


def test_what_makes_no_pictures_of_radar_is_refused() -> None:
    check_colorizer(Painter())
    for wrong in (
        Painter(optical=SLICE),
        Painter(radar=SENTINEL1.select(())),
        Painter(scale=4),
    ):
        with pytest.raises(InputError, match="does not turn radar into pictures in colour"):
            check_colorizer(wrong)
    with pytest.raises(InputError, match=r"has no tokenizer; put the tokenizer\.json of its training"):
        check_colorizer(Painter(tokenizer=None))
    with pytest.raises(InputError, match="takes no text; leave out prompt, regions and seasons"):
        check_takes_text(replace(Painter(), takes_text=False))


def test_words_that_training_did_not_have_are_named_once() -> None:
    with pytest.warns(UserWarning, match="does not know 'desert', 'sand'; it heeds"):
        warn_of_unknown(Painter(), ["Region: desert", "image, sand, desert"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unknown(Painter(), ["Region: tropical", ""])
        warn_of_unknown(Painter(takes_text=False, tokenizer=None), ["anything"])
