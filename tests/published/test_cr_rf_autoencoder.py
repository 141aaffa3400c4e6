from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from checkpoints import FLOW_AUTOENCODER, autoencoder_weights, save
from safetensors.torch import save_file
from torch import Tensor

from pellucid.build.method import load
from pellucid.errors import InputError
from pellucid.methods.autoencoding import Autoencoding
from pellucid.networks import autoencoder
from pellucid.published._read import import_run, read_checkpoint


def test_every_size_of_an_autoencoder_is_read_off_the_weights(tmp_path: Path) -> None:
    weights = autoencoder_weights()
    found = read_checkpoint(save(tmp_path / "model_ae.pth", weights), "cr-rf-autoencoder")
    assert found.network.pop("name") == "autoencoder"
    assert autoencoder.Config(**found.network) == FLOW_AUTOENCODER
    assert found.method == {"name": "autoencoding", "optical": ("B04", "B03", "B02")}
    network = autoencoder.build(FLOW_AUTOENCODER)
    network.load_state_dict(found.weights)
    assert torch.equal(network.encoder.conv_in.weight, weights["encoder.conv_in.weight"])
    assert network.scale.tolist() == pytest.approx([0.3611] * 2)
    assert network.shift.tolist() == pytest.approx([0.1159] * 2)


def test_imported_autoencoder_gives_the_published_output(golden_folder: Path, tmp_path: Path) -> None:
    known = golden.arrays(golden_folder, "crrf_autoencoder_small")
    weights = golden.state_dict(golden_folder, "crrf_autoencoder_small")
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "ae.safetensors")
    import_run("cr-rf-autoencoder", tmp_path / "ae.safetensors", tmp_path / "run")
    method = load(tmp_path / "run", device="cpu")
    assert isinstance(method, Autoencoding)
    assert method.optical.bands == ("B04", "B03", "B02")
    with torch.inference_mode():
        torch.testing.assert_close(method.network.encode(known["x"]), known["z"], **golden.TOLERANCE)
        torch.testing.assert_close(method.network.decode(known["z"]), known["dec"], **golden.TOLERANCE)
        image = known["x"].clamp(-1, 1) / 2 + 0.5
        latents = method.network.encode(known["x"].clamp(-1, 1))
        torch.testing.assert_close(method.encode(image), latents, **golden.TOLERANCE)


@pytest.mark.parametrize(
    ("bands", "named", "optical", "radar"),
    [
        (2, {}, (), ("VV", "VH")),
        (1, {"radar": ("VV",)}, (), ("VV",)),
        (3, {"optical": ("B12", "B08", "B04")}, ("B12", "B08", "B04"), ()),
    ],
)
def test_an_autoencoder_is_of_the_images_that_are_named(
    tmp_path: Path, bands: int, named: dict[str, Any], optical: tuple[str, ...], radar: tuple[str, ...]
) -> None:
    path = save(tmp_path / "ae.pth", {"model_state_dict": autoencoder_weights(bands=bands)})
    import_run("cr-rf-autoencoder", path, tmp_path / "run", **named)
    method = load(tmp_path / "run", device="cpu")
    assert (method.optical.bands, method.radar.bands) == (optical, radar)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encoder.conv_in.weight": None}, "it lacks encoder.conv_in.weight; no other known format fits it"),
        (
            {"decoder.mid.attn_1.q.bias": None},
            "it lacks decoder.mid.attn_1.q.bias; no other known format fits it",
        ),
        ({"loss.logvar": torch.zeros(())}, "loss.logvar is no weight of that network"),
        (
            {"encoder.conv_out.bias": torch.zeros(5)},
            r"encoder.conv_out.bias has shape \(5,\) instead of \(4,\)",
        ),
    ],
)
def test_what_is_no_autoencoder_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, Tensor | None], sentence: str
) -> None:
    content = {**autoencoder_weights(), **changes}
    kept = {name: tensor for name, tensor in content.items() if tensor is not None}
    with pytest.raises(InputError, match=sentence) as caught:
        read_checkpoint(save(tmp_path / "ae.pth", kept), "cr-rf-autoencoder")
    assert "\n" not in str(caught.value)


def test_an_autoencoder_of_unknown_bands_needs_their_names(tmp_path: Path) -> None:
    path = save(tmp_path / "ae.pth", autoencoder_weights(bands=4))
    with pytest.raises(InputError, match="of optical bands or of radar, found neither; name one"):
        import_run("cr-rf-autoencoder", path, tmp_path / "run")
