import math

import torch

from pellucid.networks._clearness import BANDS
from pellucid.networks._looks import About, Looks, log_variance_of

NUM = len(BANDS)


def looks(log_variance: float) -> Looks:
    image = torch.full((1, NUM + 1, 4, 4), 0.2)
    one = torch.zeros(1, 1, 4, 4)
    return Looks(image, image, one + 1, image, image, image * 0 + log_variance, one, None)


def test_two_equally_sure_colours_have_half_the_variance() -> None:
    about = About(torch.full((1, NUM + 1, 1, 1), 1e-4), torch.ones(1, NUM + 1, 1, 1))
    alike = looks(math.log(2e-4))  # a leverage of 1 doubles the noise
    changes = torch.zeros(1, 3 * NUM + 1, 4, 4)
    found = log_variance_of(changes, *alike, about=about)[0]
    torch.testing.assert_close(found, torch.full_like(found, math.log(1e-4)))
    torch.testing.assert_close(alike.trust(changes, about), torch.zeros(1, NUM + 1, 4, 4), atol=1e-5, rtol=0)


def test_colours_of_which_nothing_is_known_have_no_say() -> None:
    about = About(torch.full((1, NUM + 1, 1, 1), 1e-4), torch.ones(1, NUM + 1, 1, 1))
    changes = torch.zeros(1, 3 * NUM + 1, 4, 4)
    changes[:, NUM] = 1.0  # doubt of the first band: the other sensor's has the mean of all
    unknown = looks(0.0)
    assert (unknown.trust(changes, about) == -torch.inf).all()
    found = log_variance_of(changes, *unknown, about=about)[0][0, :, 0, 0] - math.log(2e-4)
    torch.testing.assert_close(found[[0, 1, NUM]], torch.tensor([1.0, 0.0, 1 / NUM]), atol=1e-5, rtol=1e-5)
