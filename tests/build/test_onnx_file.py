import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pellucid.build import onnx_file
from pellucid.build.method import build_method, load
from pellucid.build.onnx_file import export
from pellucid.build.onnx_graph import graph_of
from pellucid.build.run import save_run
from pellucid.config import load_config
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.methods.method import Method

CONFIGS = Path(__file__).parents[2] / "configs"


def build(name: str, *changes: str) -> Method:
    method = build_method(load_config(CONFIGS / name, changes))
    method.network.eval()
    return method


def save(folder: Path, name: str, *changes: str) -> Path:
    config = load_config(CONFIGS / name, changes)
    method = build_method(config)
    method.mean_spectrum = (0.2,) * len(method.optical.bands)
    save_run(folder, config=config, method=method)
    return folder


def run(path: Path, **inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: x.numpy() for name, x in inputs.items()})[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    changes = ("method.radar_optional=true", "method.caution=0.3")
    save(folder / "run", "cross_attention_tiny.yaml", *changes)
    assert export(str(folder / "run"), folder / "model.onnx", deepness=True).difference < 1e-4
    return folder


def test_a_regression_gives_what_the_method_restores_at_any_size(exported: Path) -> None:
    method = load(exported / "run", device="cpu")
    for height, width in ((32, 64), (100, 36)):
        degraded, sar = torch.rand(3, 13, height, width), torch.rand(3, 2, height, width)
        sar[:, :, :8] = torch.nan
        valid = torch.ones(3, 1, height, width, dtype=torch.bool)
        wanted = method.restore(Batch(degraded=degraded, sar=sar, valid=valid, key=("a", "b", "c")))
        found = run(exported / "model.onnx", degraded=degraded, sar=sar)
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_the_preview_has_what_deepness_needs(exported: Path) -> None:
    path = exported / "model_deepness_8bit_preview.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert given.shape == [1, 13, 256, 256]
    assert made.shape == [1, 3, 256, 256]
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["model_type"]) == "Superresolution"
    assert json.loads(facts["class_names"]) == {"0": "B04", "1": "B03", "2": "B02"}
    assert json.loads(facts["resolution"]) == 1000
    assert json.loads(facts["tile_size"]) == json.loads(facts["tiles_size"]) == 256
    image = torch.rand(1, 13, 256, 256)
    restored = load(exported / "run", device="cpu").restore(
        Batch(degraded=image, valid=torch.ones(1, 1, 256, 256, dtype=torch.bool), key=("a",))
    )
    np.testing.assert_allclose(run(path, image=image), restored[:, [3, 2, 1]].numpy() * 255, atol=0.03)


def test_the_files_say_what_they_are_and_what_goes_in(exported: Path) -> None:
    facts = {each.key: each.value for each in onnx.load(exported / "model.onnx").metadata_props}
    assert len(facts["weights_sha256"]) == 64
    assert json.loads(facts["inputs"])["sar"]["zero"] == [-25.0, -32.5]
    assert json.loads(facts["inputs"])["degraded"]["sides"] == "height and width are multiples of 4"
    item = json.loads((exported / "model.json").read_text())
    properties, asset = item["properties"], item["assets"]["model"]
    assert item["stac_extensions"][0] == "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
    assert (asset["href"], asset["roles"][0]) == ("./model.onnx", "mlm:model")
    assert asset["mlm:artifact_type"] == "onnx"
    named = [band["name"] for band in asset["bands"]]
    assert named == [*properties["mlm:input"][0]["bands"], "VV", "VH"]
    assert properties["mlm:input"][1]["value_scaling"][0] == {
        "type": "min-max",
        "minimum": -25.0,
        "maximum": 0.0,
    }
    assert properties["mlm:output"][0]["result"]["shape"] == [-1, 13, -1, -1]
    assert properties["mlm:tasks"] == ["regression"]


def test_one_step_of_a_sampler_gives_what_the_method_restores() -> None:
    changes = ("method.steps=1", "method.eta=0", "method.prediction=velocity", "method.residual=4")
    method = build("sr3_ct_tiny.yaml", *changes)
    graph = graph_of(method)
    inputs = graph.example((1, 6, 5))
    noise = inputs["noise"]
    valid = torch.ones_like(noise, dtype=torch.bool)
    batch = Batch(degraded=inputs["degraded"], valid=valid, key=("a",))
    wanted = method.restore(batch, lambda step, channels, factor=1: noise)
    with torch.no_grad():
        torch.testing.assert_close(graph.module(**inputs), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ground", "solves a regression for every scene as a whole"),
        ("cloud_flow", "works in latents or with a text"),
    ],
)
def test_what_onnx_cannot_hold_is_refused(model: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_of_several_steps_and_a_text_encoder_are_refused() -> None:
    with pytest.raises(InputError, match="samples in 8 calls of its network"):
        graph_of(build("sr3_ct_tiny.yaml", "method.steps=8"))
    with pytest.raises(InputError, match="restores no images"):
        graph_of(build("cloud_flow_autoencoder_tiny.yaml"))


def test_a_file_that_differs_from_torch_is_refused(exported: Path) -> None:
    method = load(exported / "run", device="cpu")
    graph = graph_of(method)
    with torch.no_grad():
        method.network.decoder.final_conv.bias.add_(0.01)  # type: ignore[union-attr,operator]
    with pytest.raises(InputError, match="differs from torch by"):
        onnx_file._compare(exported / "model.onnx", graph.module, [graph.example((1, 8, 8))])


def test_two_exports_are_equal_and_what_a_killed_one_left_is_replaced(exported: Path, tmp_path: Path) -> None:
    for name in ("model.json", "model_deepness_8bit_preview.onnx"):
        shutil.copyfile(exported / name, tmp_path / name)
        with (tmp_path / name).open("a") as file:
            file.write(" ")
    export(str(exported / "run"), tmp_path / "model.onnx", deepness=True)
    for name in ("model.onnx", "model.json", "model_deepness_8bit_preview.onnx"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()
    # Nor do they depend on the order of sets, which is another one in each process.
    notes = {each.key for each in onnx.load(exported / "model.onnx").graph.metadata_props}
    assert not any("range_constraints" in key for key in notes)
    with pytest.raises(InputError, match=r"model\.onnx is there already"):
        export(str(exported / "run"), tmp_path / "model.onnx")


def test_a_stopped_export_leaves_nothing(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_file, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        export(str(exported / "run"), tmp_path / "model.onnx")
    assert not [path for path in tmp_path.iterdir() if path.name[0] != "."]


def test_nothing_is_replaced_and_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.json").write_text("mine")
    with pytest.raises(InputError, match=r"model\.json is there already"):
        export("cross_attention", tmp_path / "model.onnx")
    with pytest.raises(InputError, match=r"must end in \.onnx"):
        export("cross_attention", tmp_path / "model.pt")
    monkeypatch.setattr(onnx_file, "PACKAGES", ("no_such_package",))
    with pytest.raises(InputError, match=r"pip install 'pellucid\[onnx\]'"):
        export("cross_attention", tmp_path / "new.onnx")
