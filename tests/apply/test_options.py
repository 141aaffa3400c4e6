from dataclasses import fields
from typing import get_args

import pytest

from pellucid.apply.options import (
    ApplyOptions,
    CloudMapOptions,
    Help,
    PictureOptions,
    SceneOptions,
    SliceOptions,
    parse_offset,
    parse_range,
)
from pellucid.errors import InputError


def test_each_option_is_described_within_its_bounds() -> None:
    for options in (ApplyOptions, SceneOptions, SliceOptions, PictureOptions, CloudMapOptions):
        for field in fields(options):
            for about in (each for each in get_args(field.type) if isinstance(each, Help)):
                assert about.text.endswith(".")
                if field.default is not None and about.min is not None:
                    assert field.default >= about.min


def test_offsets_are_words_or_whole_numbers() -> None:
    assert [parse_offset(text) for text in ("auto", "none", "-1000")] == ["auto", "none", -1000]
    with pytest.raises(InputError, match=r"--offset is '1.5', must be auto, none or a whole number"):
        parse_offset("1.5")


def test_ranges_are_words_or_two_numbers() -> None:
    assert [parse_range(text) for text in ("full", "auto", "0,4e4")] == ["full", "auto", (0, 40000)]
    for wrong in ("much", "1", "1,2,3"):
        with pytest.raises(InputError, match="must be full, auto or two grey values"):
            parse_range(wrong)
