"""Figures that others published for SEN12MS-CR: theirs, by their own measures and training, not run here."""

from typing import NamedTuple

_GEOCR = "Do and Kim 2026, arXiv:2609.32510, table 4a (MODEL_ZOO.md of KAIST-VICLab/GeoCR)"


class PublishedFigure(NamedTuple):
    """PSNR in dB and SSIM over 13 bands of 7899 test patches; None: not known here."""

    model: str
    split: str  # by which it was trained: strict, exact ROIs, or legacy, with six of ten test ROIs in it
    psnr: float
    ssim: float | None
    source: str


PUBLISHED = (
    PublishedFigure("UnCRtainTS, retrained", "strict", 28.77, 0.884, _GEOCR),
    PublishedFigure("EMRDM, retrained", "strict", 28.70, 0.873, _GEOCR),
    PublishedFigure("GACR, retrained", "strict", 27.76, 0.828, _GEOCR),
    PublishedFigure("GeoCR without fine-tuning", "strict", 29.29, 0.866, _GEOCR),
    PublishedFigure("GeoCR, LoRA", "strict", 29.19, 0.866, _GEOCR),
    PublishedFigure("EMRDM", "legacy", 32.14, None, "Liu et al. 2025, arXiv:2503.23717"),
)
