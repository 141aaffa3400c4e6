import json
import re
from pathlib import Path
from typing import Any

import pytest

from pellucid.config import load_config
from pellucid.errors import InputError
from pellucid.published._settings import translate

# As the guide of the SAR colorization has them.
CLIP = """{
    "model": {"vocab_size": 1000, "embedding_dim": 768, "max_length": 77, "num_heads": 12, "num_layers": 12},
    "training": {"batch_size": 32, "learning_rate": 1e-4, "weight_decay": 0.01, "epochs": 50,
                 "warmup_steps": 1000, "save_every": 5},
    "data": {"train_split": 0.8, "num_workers": 4, "pin_memory": true}
}"""
MODEL = """{
    "clip_config": {"n_vocab": 1000, "n_embd": 768, "max_length": 77, "n_head": 12, "n_layers": 12},
    "diffusion_config": {"in_channels": 8, "out_channels": 4, "model_channels": 320,
        "attention_resolutions": [4, 2, 1], "num_res_blocks": 2, "channel_mult": [1, 2, 4, 4], "num_heads": 8,
        "use_spatial_transformer": true, "context_dim": 768},
    "training": {"batch_size": 4, "learning_rate": 1e-4, "weight_decay": 0.01, "epochs": 100,
        "warmup_steps": 2000, "save_every": 10, "validate_every": 5, "mixed_precision": true,
        "gradient_accumulation_steps": 4, "max_grad_norm": 1.0},
    "data": {"train_split": 0.8, "num_workers": 4, "pin_memory": true}
}"""
CONFIGS = Path(__file__).parents[2] / "configs"
# What the published configs do not have, or the YAML beside them has otherwise, with reason.
OURS = ("data", "perceptual_weights", "losses")


@pytest.mark.parametrize(("text", "name"), [(CLIP, "text_encoder"), (MODEL, "colorize")])
def test_a_published_config_means_what_ours_does(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(text)
    found = load_config(path, translate=translate).model_dump(mode="json")
    ours = load_config(CONFIGS / f"{name}.yaml").model_dump(mode="json")
    for key in ("batch", "accumulate", "learning_rate", "weight_decay", "epochs", "warmup_steps", "schedule"):
        assert found["train"][key] == ours["train"][key]
    for key in ("precision", "clip_norm", "checkpoint_every_epochs", "validate_every_epochs", "num_workers"):
        assert found["train"][key] == ours["train"][key]
    assert found["train"]["pin_memory"]
    given = found["network"].items()
    assert {key: value for key, value in given if key in ours["network"]} == {
        key: value for key, value in ours["network"].items() if key in found["network"]
    }
    assert found["method"]["name"] == ours["method"]["name"]
    if name == "colorize":
        assert found["network"]["sar_channels"] == 4
        unlike = {key for key in ours["method"] if found["method"][key] != ours["method"][key]}
        assert unlike <= {"text"}  # the run of clip_config.json
    assert found["data"]["train"][0]["shares"] == pytest.approx([0.8, 0.2, 0])


def test_the_tuning_that_the_guide_names_is_taken_too() -> None:
    values: dict[str, Any] = json.loads(MODEL)
    values["training"] |= {"beta1": 0.8, "beta2": 0.99, "eps": 1e-7, "dropout": 0.1, "lr_scheduler": "cosine"}
    values["training"] |= {"min_lr": 1e-6, "mse_loss_weight": 1.0, "adversarial_loss_weight": 0.01}
    found = translate(values)
    assert found["train"]["betas"] == [0.8, 0.99]
    assert (found["train"]["eps"], found["train"]["schedule"]) == (1e-7, "cosine")
    assert found["train"]["final_rate"] == pytest.approx(0.01)
    assert found["network"]["dropout"] == 0.1
    assert found["losses"] == {"denoise": 1.0, "adversarial": 0.01}


def test_the_augmentation_of_the_guide_is_that_of_our_config(tmp_path: Path) -> None:
    jitter = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.05}
    values: dict[str, Any] = json.loads(MODEL)
    values["augmentation"] = {"horizontal_flip": 0.5, "rotation": 10, "color_jitter": jitter}
    values["augmentation"]["gaussian_noise"] = 0.01
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(values))
    ours = load_config(CONFIGS / "colorize.yaml").data.augment
    assert load_config(path, translate=translate).data.augment == ours
    for key, message in (("horizontal_flip", "is 0.3, pictures are mirrored"), ("rotations", "unknown key")):
        wrong = {**values, "augmentation": {key: 0.3}}
        with pytest.raises(InputError, match=message):
            translate(wrong)


def test_other_configs_stay_as_they_are_and_unknown_keys_are_named() -> None:
    plain = {"network": {"name": "glf_cr"}, "data": {}}
    assert translate(plain) == plain
    values = json.loads(CLIP)
    values["training"]["batchsize"] = 3
    message = "unknown key 'training.batchsize' of a published config; did you mean 'batch_size'"
    with pytest.raises(InputError, match=re.escape(message)):
        translate(values)
