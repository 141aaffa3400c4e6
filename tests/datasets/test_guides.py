import torch

from pellucid.datasets._guides import mirror


def test_an_image_is_mirrored_as_often_as_needed() -> None:
    image = torch.tensor([[1, 2, 3]])
    assert mirror(image, 8).tolist() == [[1, 2, 3, 3, 2, 1, 1, 2]] * 8
    assert mirror(image, 1).tolist() == [[1, 2, 3]]
