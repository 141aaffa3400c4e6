from pathlib import Path

import torch
from PIL import Image
from tests.evaluation.test_trial import Guided, make_patch, trial

from pellucid.evaluation.figures import score_image
from pellucid.evaluation.score_sheet import ScoreSheet


def test_older_dates_and_uncertainty_have_panels_and_single_polarisations_are_drawn(tmp_path: Path) -> None:
    patch = make_patch((32, 32))
    patch.sar[:, 1] = torch.nan  # VV alone
    drawn = ScoreSheet([0, 1])
    for at, batch in enumerate((patch, patch)):
        restored = trial(Guided()).restore(batch)
        drawn.add(at, restored, score_image(restored.batch, restored.estimate.image, None))
    titles = [title.split(",")[0] for title in drawn.panels[0]]
    assert titles == ["input", "radar (VV", "older dates", "result", "truth", "error", "uncertainty"]
    assert (drawn.panels[0]["radar (VV, VH)"] == 128).all()  # 0.5 of VV, in grey
    uncertainty = next(panel for title, panel in drawn.panels[0].items() if title.startswith("uncertainty"))
    assert (uncertainty == 255).all()
    drawn.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert 7 * 256 < picture.width < 8 * 256


def test_images_that_are_not_shown_are_not_kept(tmp_path: Path) -> None:
    restored = trial(Guided()).restore(make_patch((32, 32)))
    drawn = ScoreSheet([])
    drawn.add(0, restored, score_image(restored.batch, restored.estimate.image, None))
    drawn.save(tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
