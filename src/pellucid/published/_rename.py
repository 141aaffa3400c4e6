"""Published weights under our names: rules that say where each tensor goes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Where one published tensor goes."""

    published: str
    ours: tuple[str, ...]  # keys of the tensors into which its rows are cut
    shares: tuple[int, ...] = (1,)  # of the rows that each of these takes
    is_swapped: bool = False  # the two halves of its rows change places
    is_convolution: bool = False  # (D, D, 1, 1) where ours is (D, D)


def from_published(weights: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, Tensor]:
    """Return published weights under our keys, sharing memory; those without a rule keep their key.

    A KeyError names a missing tensor; a ValueError one whose rows cannot be cut.
    """
    rest = dict(weights)
    ours: dict[str, Tensor] = {}
    for rule in rules:
        tensor = rest.pop(rule.published)
        tensor = tensor.flatten(1) if rule.is_convolution else tensor
        unit, left = divmod(len(tensor), sum(rule.shares))
        if left:
            raise ValueError(f"{rule.published} has {len(tensor)} rows, must divide by {sum(rule.shares)}")
        tensor = tensor.roll(len(tensor) // 2, 0) if rule.is_swapped else tensor
        ours.update(zip(rule.ours, tensor.split([unit * share for share in rule.shares]), strict=True))
    return ours | rest


def layer(
    published: str, *ours: str, shares: tuple[int, ...] = (1,), is_swapped: bool = False
) -> Iterator[Rule]:
    """Yield the rules of a layer's weight and bias."""
    for kind in ("weight", "bias"):
        keys = tuple(f"{name}.{kind}" for name in ours)
        yield Rule(f"{published}.{kind}", keys, shares=shares, is_swapped=is_swapped)


def count(weights: Mapping[str, Tensor], name: str) -> int:
    """Return how many of `name`, with 0, 1, ... in place of its braces, there are."""
    return next(index for index in range(len(weights) + 1) if name.format(index) not in weights)


def find_levels(weights: Mapping[str, Tensor], step: str, block: str) -> list[list[int]]:
    """Return the numbers of a U-Net's blocks on the way down, level by level.

    Every level has as many blocks as the first; blocks after the last level are left out. `block` is the key
    of a block and `step` that of the layer that leads to the next level, with braces for the number.
    """
    levels: list[list[int]] = [[]]
    for number in range(1, len(weights)):
        if block.format(number) in weights:
            levels[-1].append(number)
        elif step.format(number) in weights and len(levels[-1]) == len(levels[0]):
            levels.append([])
        else:
            break
    return [level[: len(levels[0])] for level in levels]
