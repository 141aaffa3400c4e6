from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softsign

from pellucid.data.sums import Sums
from pellucid.networks._cells import Cells
from pellucid.networks._clearness import BANDS, Clear, Seen
from pellucid.networks._looks import About, Looks
from pellucid.networks.ground import LEAST_LEVERAGE, Config, GroundNet, Painted, build

TINY = Config(features=6, widths=(8, 12), clear_widths=(8, 8), detail=4, refine=8, refine_widths=(8, 8))


def network(seed: int = 0, config: Config = TINY) -> GroundNet:
    """Return a network whose refinement is not zero, as when training starts: it would hide faults."""
    torch.manual_seed(seed)
    net = build(config).eval()
    with torch.no_grad():
        for weights in (*net.refine.widen.parameters(),) if config.refine else ():
            weights.add_(0.02 * torch.randn_like(weights) * (weights == 0))
    return net


def seen(size: int = 32, *, extra: int = 0, **fields: Tensor | None) -> Seen:
    generator = torch.Generator().manual_seed(1)
    values = 0.2 * torch.rand(1, len(BANDS) + extra, size, size, generator=generator)
    sar = torch.rand(1, 2, size, size, generator=generator)
    known = torch.ones(1, len(BANDS) + extra)
    return Seen(values, known, torch.ones(1, 1, size, size), sar)._replace(**fields)


def said(painted: Painted) -> list[Tensor]:
    """Return all that is said of the ground."""
    return [*painted[:4], painted.deviation]


def half(size: int = 32) -> Tensor:
    given = torch.zeros(1, 1, size, size)
    given[..., : size // 2] = 1
    return given


@torch.inference_mode()
def test_hidden_pixels_have_no_influence() -> None:
    net, image = network(), seen(given=half())
    painted = net(image)[1]
    other = image.values.clone()
    other[..., 16:] = 0.9
    torch.testing.assert_close(net(image._replace(values=other))[1].image, painted.image)


@torch.inference_mode()
def test_regression_finds_colours_that_follow_from_the_features() -> None:
    net = network(config=Config(features=6, widths=(8, 12), clear_widths=(8, 8), detail=4, refine=0))
    with torch.no_grad():
        net.log_alike.fill_(-1.0)  # every pixel counts, so that the prior hardly does
    image = seen(size=64, given=half(64))
    phi, _ = net.features(image)
    truth = (0.2 + 0.03 * phi[:, -6:].sum(1, keepdim=True)).expand(-1, len(BANDS), -1, -1)
    painted = net(image._replace(values=truth * half(64)))[1]
    assert (painted.image - truth)[..., 32:].abs().max() < 5e-3


@torch.inference_mode()
def test_sums_that_rounding_has_made_indefinite_are_solved() -> None:
    net, alike = network(), torch.ones(1, 7, 1)
    gram = 1e7 * alike @ alike.mT - 5 * torch.eye(7)  # float32 is good to 1e-7 of the largest sum
    cross = 1e6 * alike.expand(1, 7, len(BANDS))
    sums = Sums(gram, cross, torch.full((1, len(BANDS)), 1e5), torch.full((1, 1), 1e7))
    solution = net.solve((sums, torch.ones(1, len(BANDS))))
    assert all(values.isfinite().all() for values in solution)


@torch.inference_mode()
def test_sums_of_tiles_paint_as_those_of_the_whole() -> None:
    net, image = network(), seen(given=half())
    clear, phi = net.look(image)
    whole, known = net.sums(image, clear, phi)
    left, right = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    left[..., :10] = 1
    right[..., :10] = 0
    parts = [net.sums(image._replace(valid=image.valid * share), clear, phi)[0] for share in (left, right)]
    total = parts[0] + parts[1]
    one, two = net.solve((whole, known)), net.solve((total, known))
    torch.testing.assert_close(one.weights, two.weights, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.noise, two.noise, rtol=1e-3, atol=1e-6)


@torch.inference_mode()
def test_bands_beyond_the_13_have_the_prior_of_their_twins() -> None:
    net = build(Config(features=2, widths=(8, 8), clear_widths=(8, 8), detail=4, refine=0))
    net.mean_colour.copy_(torch.rand(13))
    net.mean_features.copy_(torch.rand(2, 13))
    net.log_noise.copy_(-torch.rand(13))
    mean, _ = net.prior((4, -1))
    torch.testing.assert_close(mean[:1, 13], mean[:1, 4])
    torch.testing.assert_close(mean[-2:, 13], mean[-2:, 4])
    torch.testing.assert_close(mean[0, 14], net.mean_colour.mean())
    assert not mean[-2:, 14].any()
    assert net.noise((4, -1))[13] == net.noise(())[4]


@torch.inference_mode()
def test_refinement_sees_the_image_that_is_never_put_together() -> None:
    net, phi, weights = network(), torch.rand(1, 7, 16, 16), torch.rand(1, 7, 13)
    cells = Cells(torch.rand(1, 13, 2, 2), torch.rand(1, 2, 2, 2))
    values, colours, log_variance = torch.randn(3, 1, 13, 16, 16)
    leverage, confidence = torch.rand(2, 1, 1, 16, 16)
    leverage[..., :4] = 1e-3  # that of a large, clear scene
    carried, near = (cells.enlarge(x, phi) for x in cells)
    solved = torch.einsum("bdc,bdhw->bchw", weights, phi)
    image, variance = solved + carried, 0.1 * (1 + leverage)
    compared = [(values - image) / variance.sqrt(), (colours - image) / variance.sqrt()]
    compared += [variance.log() - log_variance]
    judged = [leverage.clamp(min=LEAST_LEVERAGE).log() / 4, confidence]
    parts = [3 * image, 3 * carried, *(softsign(x / 2) for x in compared), phi[:, -6:], near, *judged]
    expected = net.squeeze(torch.cat(parts, 1))
    squeeze, about = net._squeeze(weights, cells, phi), About(torch.full((1, 13, 1, 1), 0.1), torch.ones(1))
    looks = Looks(solved, carried, leverage, values, colours, log_variance, confidence, None)
    found = net._compare(phi, cells.enlarge(squeeze.of_cells, phi), *looks, squeeze=squeeze, about=about)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_missing_guides_are_not_zero_and_not_a_fault() -> None:
    net = network()
    nothing = net.features(seen(sar=None))[0]
    nan = net.features(seen(sar=torch.full((1, 2, 32, 32), torch.nan)))[0]
    zero = net.features(seen(sar=torch.zeros(1, 2, 32, 32)))[0]
    torch.testing.assert_close(nothing, nan)
    assert not torch.allclose(nothing, zero)
    vv_alone = torch.rand(1, 2, 32, 32)
    vv_alone[:, 1] = torch.nan
    assert net(seen(sar=vv_alone, given=half()))[1].image.isfinite().all()


@torch.inference_mode()
def test_no_older_date_is_as_one_without_a_clear_pixel() -> None:
    net, image = network(), seen(given=half())
    nowhere = torch.full_like(image.values, torch.nan)
    for one, two in zip(*(said(net(x)[1]) for x in (image, image._replace(older=nowhere))), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_images_of_which_nothing_is_said_are_judged_beside_others() -> None:
    net, one = network(), seen()
    both = Seen(*(None if x is None else x.repeat(2, *[1] * (x.ndim - 1)) for x in one))
    given = torch.cat([half(), torch.full_like(half(), torch.nan)])
    found = net(both._replace(given=given))[1]
    for i, alone in enumerate((one._replace(given=half()), one)):
        for a, b in zip(said(found), said(net(alone)[1]), strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_a_pixel_unlike_what_the_scene_says_of_its_place_is_doubted() -> None:
    net = network(config=replace(TINY, refine_widths=(8,)))
    with torch.no_grad():
        for weights in (*net.squeeze.parameters(), *net.refine.parameters()):
            weights.zero_()
        net.squeeze.weight[0, 2 * len(BANDS)] = 1  # what is seen of B01 less what is painted
        net.refine.first.weight[0, :4, 1, 1] = 0.25
        net.refine.widen.weight[-4:, 0] = -1
    image = seen()
    image.values[:, 0, 8:16, 8:16] = 1
    clear, painted = net(image)
    change = (painted.confidence.logit() - clear.confidence.logit())[0, 0]
    assert change[8:16, 8:16].mean() < change[20:, 20:].mean() - 0.3


@torch.inference_mode()
def test_older_date_is_kept_where_nothing_is_clear() -> None:
    net = network(config=Config(features=6, widths=(8, 12), clear_widths=(8, 8), detail=4, refine=0))
    older = 0.3 * torch.rand(1, len(BANDS), 32, 32)
    painted = net(seen(older=older, given=torch.zeros(1, 1, 32, 32)))[1]
    torch.testing.assert_close(painted.image, older, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_band_of_another_sensor_is_painted_by_the_scene_alone() -> None:
    net = network()
    image = seen(extra=1, given=half())
    values = image.values.clone()
    values[:, -1] = 0.6
    painted = net(image._replace(values=values))[1]
    assert painted.image.shape[1] == len(BANDS) + 1
    assert (painted.image[:, -1] - 0.6).abs().max() < 0.15


@torch.inference_mode()
def test_band_that_is_missing_has_its_prior() -> None:
    net = network()
    known = torch.ones(1, len(BANDS))
    known[:, 4] = 0
    clear = Clear(half(), half(), seen().values, torch.zeros_like(seen().values))
    image = seen(known=known)
    solution = net.solve(net.sums(image, clear, net.features(image)[0]))
    torch.testing.assert_close(solution.weights[0, 0, 4], net.mean_colour[4])


@torch.inference_mode()
def test_less_clear_ground_means_more_doubt() -> None:
    net = network()
    few = torch.zeros(1, 1, 32, 32)
    few[..., :2, :2] = 1
    sure, unsure = (net(seen(given=given))[1].deviation.mean() for given in (half(), few))
    assert unsure > sure


@torch.inference_mode()
def test_colours_without_haze_count_by_how_sure_they_are() -> None:
    net, image = network(), seen()
    with torch.no_grad():
        for weights in net.refine.widen.parameters():
            weights.zero_()
    clear, phi = net.look(image)
    solution = net.solve(net.sums(image, clear, phi))
    colours = torch.full_like(image.values, 0.7)
    for log_variance, expected in ((-12.0, 0.7), (0.0, None)):
        said = clear._replace(colours=colours, log_variance=torch.full_like(colours, log_variance))
        painted = net.paint(image, said, phi, solution)
        if expected is None:
            assert painted.image.mean() < 0.6
        else:
            torch.testing.assert_close(painted.image, colours, atol=0.02, rtol=0)


@torch.inference_mode()
def test_haze_is_taken_off_by_what_it_adds_and_hides() -> None:
    net, image = network(), seen(size=64)
    clearness, truth = net.clearness, 0.1 + 0.1 * image.values
    haze = torch.full((1, 12, 64, 64), -30.0)
    haze[:, [1, 5]] = 2.0  # of the second spectrum, added and hidden
    amount = torch.nn.functional.softplus(torch.tensor(2.0))
    with torch.no_grad():
        clearness.log_hidden[1] = (0.3 / amount).log() / 3
        clearness.log_added[1] = (0.2 / amount).log() / 3
    cleaned = clearness._clean(truth * (-torch.tensor(0.3)).exp() + 0.2, haze)
    assert (cleaned.mean((2, 3)) - truth.mean((2, 3))).abs().max() < 0.002


def test_gradients_reach_every_part() -> None:
    net = network()
    clear, painted = net(seen())
    (painted.image.mean() + painted.deviation.mean() + clear.colours.mean()).backward()
    for name, values in net.named_parameters():
        assert values.grad is not None, name
        assert values.grad.isfinite().all(), name
