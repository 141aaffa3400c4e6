from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loss_batches import flat, loss_batch, noisy, term

from pellucid.config import Config
from pellucid.data.schema import parse
from pellucid.errors import InputError
from pellucid.losses._shelf import Needs, build_term, known_terms
from pellucid.networks._vgg import Vgg

TERMS = [name for name in known_terms() if name != "adversarial"]


@pytest.mark.parametrize(
    "name", ["l1", "l2", "log_l2", "ssim", "multi_scale", "frequency", "perceptual", "lpips"]
)
def test_a_perfect_result_costs_nothing(name: str) -> None:
    _, made = noisy()
    assert term(name)(made.target, made).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_pixels_that_are_not_valid_do_not_count(name: str) -> None:
    restored, made = noisy()
    valid = made.valid.clone()
    valid[..., :10, :] = False
    made = replace(made, valid=valid)
    expected = term(name)(restored, made)
    other = restored.clone()
    other[..., :10, :] = 7
    torch.testing.assert_close(term(name)(other, made), expected)
    assert not torch.equal(expected, term(name)(restored, replace(made, valid=torch.ones_like(valid))))


@pytest.mark.parametrize("name", ["l1", "l2", "log_l2", "cloud_adaptive", "multi_scale"])
def test_half_the_pixels_weigh_as_much_as_all(name: str) -> None:
    made = loss_batch(target=flat(0.5), degraded=flat(0.9), cloud=0.5)
    half = made.valid.clone()
    half[..., 8:] = False
    torch.testing.assert_close(term(name)(flat(0.3), replace(made, valid=half)), term(name)(flat(0.3), made))


@pytest.mark.parametrize("name", TERMS)
def test_a_batch_without_a_valid_pixel_costs_nothing_and_teaches_nothing(name: str) -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = term(name)(restored, replace(made, valid=torch.zeros_like(made.valid)))
    loss.backward()
    assert loss.item() == 0
    assert restored.grad is not None
    assert torch.equal(restored.grad, torch.zeros_like(restored))


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_points_downhill(name: str) -> None:
    restored, made = noisy()
    restored.requires_grad_()
    loss = term(name)(restored, made)
    (slope,) = torch.autograd.grad(loss, restored)
    better = term(name)(restored - 0.01 * slope / slope.norm(), made)
    assert better < loss


@pytest.mark.parametrize("name", ["log_l2", "ssim", "multi_scale", "frequency"])
def test_delicate_sums_are_computed_in_full_precision_under_autocast(name: str) -> None:
    restored, made = noisy()
    with torch.autocast("cpu", torch.bfloat16):
        under = term(name)(restored, made)
    assert torch.equal(under, term(name)(restored, made))


@pytest.mark.parametrize("name", TERMS)
def test_an_image_of_low_precision_costs_about_as_much_as_in_full(name: str) -> None:
    restored, made = noisy()
    with torch.autocast("cpu", torch.bfloat16):
        low = term(name)(restored.bfloat16(), made)
    torch.testing.assert_close(low, term(name)(restored, made), rtol=0.01, atol=0, check_dtype=False)


def needs_of(bands: int) -> Needs:
    """What a run without weights of other networks has."""

    def load(source: str) -> Vgg:
        raise AssertionError(source)

    return Needs(bands=bands, has_clouds=True, seed=0, perceptual_weights="", load_vgg=load)


def test_a_function_of_the_user_is_a_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_terms_1.py").write_text(
        "def edges(restored, batch):\n    return (restored - batch.target).diff().abs().mean()\n\n"
        "def wrong(restored, batch):\n    return restored\n"
    )
    restored, made = noisy()
    found = build_term("my_terms_1:edges", needs_of(3))(restored, made)
    torch.testing.assert_close(found, (restored - made.reference()).diff().abs().mean())
    config = parse_losses({"l1": 1.0, "my_terms_1:edges": 0.1})
    assert config == {"l1": 1.0, "my_terms_1:edges": 0.1}
    with pytest.raises(InputError, match=r"my_terms_1:wrong returned \(2, 3, 24, 24\), a loss is one number"):
        build_term("my_terms_1:wrong", needs_of(3))(restored, made)
    with pytest.raises(InputError, match="has no function egdes; define it there"):
        build_term("my_terms_1:egdes", needs_of(3))
    with pytest.raises(InputError, match=r"cannot import my_terms_2 .* put my_terms_2.py into the working"):
        build_term("my_terms_2:edges", needs_of(3))


def parse_losses(losses: dict[str, float]) -> dict[str, float]:
    return parse(Config, {"network": {}, "data": {"train": []}, "losses": losses}, where="config").losses


def test_unknown_terms_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"losses.lpip is not a known term; did you mean 'lpips'"):
        parse_losses({"lpip": 1.0})
    with pytest.raises(InputError, match="a term of your own is written module:function"):
        parse_losses({"my-file.py:edges": 1.0})
