from pathlib import Path

from PIL import Image
from tests.tiny import TinyData

from pellucid.build.method import build_method
from pellucid.config import load_config
from pellucid.train.sample_sheet import SIDE, draw_samples

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_sheet_has_a_row_per_sample_and_a_column_per_image(tmp_path: Path) -> None:
    changes = ("method.optical=[B02,B03,B04]",)
    method = build_method(load_config(CONFIGS / "cross_attention_tiny.yaml", changes))
    data = TinyData(2)
    draw_samples(data, method, tmp_path / "sheet.png")
    batch = data[0]
    columns = sum(
        image is not None for image in (batch.degraded, batch.sar, batch.older, batch.cloud, batch.target)
    )
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width // SIDE == columns
    assert height // SIDE == 2
