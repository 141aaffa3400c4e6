import dataclasses
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from checkpoints import autoencoder_weights, save
from typer.testing import CliRunner

from pellucid.build.method import load
from pellucid.cli import app
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.methods.generative import Generative
from pellucid.methods.sampling import with_sampling
from pellucid.networks import flux
from pellucid.published._hints import Hints
from pellucid.published._read import import_run


@pytest.fixture
def autoencoders(tmp_path: Path) -> Hints:
    """Two imported ones, with as many latent channels as the golden flow."""
    for name, bands in (("optical", 3), ("sar", 2)):
        path = save(tmp_path / f"{name}.pth", autoencoder_weights(bands=bands, latent_channels=4))
        import_run("cr-rf-autoencoder", path, tmp_path / name)
    return Hints(
        axes=(8, 12, 12), autoencoder=str(tmp_path / "optical"), sar_autoencoder=str(tmp_path / "sar")
    )


def test_imported_flow_gives_the_published_output(
    golden_folder: Path, tmp_path: Path, autoencoders: Hints
) -> None:
    known = golden.arrays(golden_folder, "crrf_flux_small")
    path = save(tmp_path / "rf_epoch_30.pth", golden.state_dict(golden_folder, "crrf_flux_small"))
    import_run("cr-rf", path, tmp_path / "run", hints=autoencoders)
    method = load(tmp_path / "run", device="cpu")
    assert isinstance(method, Generative)
    assert (method.optical.bands, method.radar.bands) == (("B04", "B03", "B02"), ("VV", "VH"))
    assert (method.space.factor, method.space.channels, method.sampling.steps) == (2, 4, 30)
    net: Any = method.network
    with torch.inference_mode():
        places = known["ids"][0]
        out = net.denoise(
            flux.Tokens(known["img"], places),
            flux.Tokens(net.sar_in(known["txt"]), places),
            net.modulation(known["t"], known["y"], known["guidance"]),
        )
    torch.testing.assert_close(out, known["out"], rtol=1e-4, atol=1e-4)  # see test_flux


def test_an_imported_flow_is_conditioned_on_its_guidance_in_one_call(
    golden_folder: Path, tmp_path: Path, autoencoders: Hints
) -> None:
    path = save(tmp_path / "rf_epoch_30.pth", golden.state_dict(golden_folder, "crrf_flux_small"))
    import_run("cr-rf", path, tmp_path / "run", hints=autoencoders)
    method, calls = load(tmp_path / "run", device="cpu"), []
    method.network.register_forward_hook(lambda *_: calls.append(1))
    draw = torch.Generator().manual_seed(0)
    image, sar = torch.rand(1, 3, 8, 8, generator=draw), torch.rand(1, 2, 8, 8, generator=draw)
    given = Batch(image, torch.ones(1, 1, 8, 8, dtype=torch.bool), key=("a",), sar=sar)
    published, same, other = (
        with_sampling(method, steps=2, guidance=guidance).restore(given) for guidance in (None, 2.5, 6.0)
    )
    assert published.equal(same)
    assert not published.equal(other)
    assert len(calls) == 3 * 2


def test_a_flow_needs_its_autoencoders(golden_folder: Path, tmp_path: Path, autoencoders: Hints) -> None:
    path = save(tmp_path / "rf.pth", golden.state_dict(golden_folder, "crrf_flux_small"))
    with pytest.raises(InputError, match="name their runs with --autoencoder and --sar-autoencoder"):
        import_run("cr-rf", path, tmp_path / "run", hints=dataclasses.replace(autoencoders, autoencoder=None))
    swapped = dataclasses.replace(autoencoders, autoencoder=autoencoders.sar_autoencoder)
    with pytest.raises(
        InputError, match=r"cannot import .*sar is no autoencoder of optical images, name one"
    ):
        import_run("cr-rf", path, tmp_path / "run", hints=swapped)
    with pytest.raises(InputError, match=r"axes is \(2, 2, 2\), must be even and add up to .* = 32"):
        import_run("cr-rf", path, tmp_path / "run", hints=dataclasses.replace(autoencoders, axes=(2, 2, 2)))
    weights = save(tmp_path / "wide.pth", autoencoder_weights(latent_channels=6))
    import_run("cr-rf-autoencoder", weights, tmp_path / "wide")
    wide = dataclasses.replace(autoencoders, autoencoder=str(tmp_path / "wide"))
    with pytest.raises(InputError, match=r"network\.latent_channels is 4, but the autoencoder has 6"):
        import_run("cr-rf", path, tmp_path / "run", hints=wide)


@pytest.mark.parametrize("axes", ["16,56", "a,b,c"])
def test_axes_that_are_no_three_numbers_are_refused(tmp_path: Path, axes: str) -> None:
    words = ["import", "cr-rf", str(tmp_path / "rf.pth"), str(tmp_path / "run"), "--axes", axes]
    result = CliRunner().invoke(app, words)
    assert result.exit_code != 0
    assert f"--axes is '{axes}', must be three whole numbers" in " ".join(result.output.split())
