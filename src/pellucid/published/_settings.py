"""The JSON configs of the SAR colorization, clip_config.json and model_config.json -> keys of our YAML."""

from collections.abc import Mapping
from typing import Any

from pellucid.data.ranges import PICTURE
from pellucid.errors import InputError, nearest
from pellucid.published.sar_colorization import PATH, SAMPLING

# Runs that a colorizer is trained after: that of clip_config.json, and configs/colorize_autoencoder.yaml.
TEXTS, PICTURES = "runs/clip_config", "runs/colorize_autoencoder"
# Side of the pictures, and the prompt, of the published code, which its configs do not name.
SIDE, PROMPT = 256, "Colorise image, Region: {region}, Season: {season}"
_TRAIN = {
    "batch_size": "batch",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "epochs": "epochs",
    "warmup_steps": "warmup_steps",
    "save_every": "checkpoint_every_epochs",
    "validate_every": "validate_every_epochs",
    "gradient_accumulation_steps": "accumulate",
    "max_grad_norm": "clip_norm",
    "grad_clip_norm": "clip_norm",
    "lr_scheduler": "schedule",
    "eps": "eps",
    "num_workers": "num_workers",
    "pin_memory": "pin_memory",
}
_LOSSES = {
    "mse_loss_weight": "denoise",
    "perceptual_loss_weight": "perceptual",
    "adversarial_loss_weight": "adversarial",
}
_TEXT = {
    "vocab_size": "vocab_size",
    "embedding_dim": "width",
    "max_length": "length",
    "num_heads": "num_heads",
    "num_layers": "num_layers",
    "dropout": "dropout",
}
_PICTURE = {"rotation": "rotation", "gaussian_noise": "radar_noise"}
_JITTER = ("brightness", "contrast", "saturation", "hue")
_UNET = (
    "model_channels",
    "attention_resolutions",
    "num_res_blocks",
    "channel_mult",
    "num_heads",
    "context_dim",
)


def translate(values: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of our config for those of a published one; others come back as they are."""
    if "diffusion_config" in values:
        return _colorizer(values)
    if isinstance(values.get("model"), dict) and "embedding_dim" in values["model"]:
        return _text_encoder(values)
    return values


def _text_encoder(values: Mapping[str, Any]) -> dict[str, Any]:
    _check(values, "", ("model", "training", "data", "augmentation"))
    train, network, _ = _training(values)
    network |= _rename(values["model"], "model.", _TEXT)
    bands = [*PICTURE.bands]
    return {
        "method": {"name": "contrastive", "optical": bands},
        "network": {"name": "text_encoder", **network},
        "data": _data(values),
        "train": {"schedule": "cosine", "validate_every_epochs": 1, **train},
    }


def _colorizer(values: Mapping[str, Any]) -> dict[str, Any]:
    _check(values, "", ("clip_config", "diffusion_config", "training", "data", "augmentation"))
    unet = dict(values["diffusion_config"])
    latents = unet.pop("out_channels", 4)
    sizes = {"latent_channels": latents, "sar_channels": unet.pop("in_channels", 2 * latents) - latents}
    if not unet.pop("use_spatial_transformer", True):
        raise InputError(
            "diffusion_config.use_spatial_transformer is false, but it takes in the text; set it"
        )
    _check(unet, "diffusion_config.", _UNET)
    train, network, losses = _training(values)
    return {
        "method": {
            **{"name": "generative", "optical": [*PICTURE.bands], "radar": ["VV"], "text": TEXTS},
            **{"space": {"optical": PICTURES, "sar": PICTURES}, "path": dict(PATH), "prediction": "noise"},
            **{"drop_condition": 0.1, **SAMPLING},
        },
        "network": {"name": "text_unet", **sizes, **unet, **network},
        "losses": {"denoise": 1.0, **losses},
        "data": _data(values),
        "train": {"schedule": "constant", **train},
    }


def _training(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return keys of `train`, `network` and `losses`."""
    given = dict(values.get("training", {}))
    found: dict[str, Any] = {}
    if "mixed_precision" in given:
        found["precision"] = "bf16" if given.pop("mixed_precision") else "fp32"
    if "beta1" in given or "beta2" in given:
        found["betas"] = [given.pop("beta1", 0.9), given.pop("beta2", 0.999)]
    if "min_lr" in given:
        found["final_rate"] = float(given.pop("min_lr")) / float(given.get("learning_rate", 1e-4))
    network = {"dropout": given.pop("dropout")} if "dropout" in given else {}
    losses = {ours: given.pop(name) for name, ours in _LOSSES.items() if name in given}
    loading = {name: values["data"][name] for name in ("num_workers", "pin_memory") if name in values["data"]}
    return {**found, **_rename({**given, **loading}, "training.", _TRAIN)}, network, losses


def _data(values: Mapping[str, Any]) -> dict[str, Any]:
    _check(values["data"], "data.", ("train_split", "num_workers", "pin_memory"))
    share = float(values["data"].get("train_split", 0.8))
    source = {"name": "sar_optical", "root": "data/Dataset", "size": SIDE, "prompt": PROMPT}
    parts = ({**source, "split": split, "shares": [share, 1 - share, 0]} for split in ("train", "val"))
    train, val = parts
    return {"train": [train], "val": [val], "tile": SIDE, "augment": _augment(values.get("augmentation"))}


def _augment(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return `data.augment`; without one, pictures are mirrored alone, half of them."""
    if given is None:
        return {"flip": True, "turn": False}
    others = dict(given)
    flip, jitter = others.pop("horizontal_flip", 0), others.pop("color_jitter", {})
    if flip not in (0, 0.5):
        raise InputError(f"augmentation.horizontal_flip is {flip}, pictures are mirrored at random: 0.5 or 0")
    _check(jitter, "augmentation.color_jitter.", _JITTER)
    picture = {**_rename(others, "augmentation.", _PICTURE), **jitter}
    return {"flip": bool(flip), "turn": False, "picture": picture}


def _rename(values: Mapping[str, Any], where: str, names: Mapping[str, str]) -> dict[str, Any]:
    _check(values, where, names)
    return {names[name]: value for name, value in values.items()}


def _check(values: Mapping[str, Any], where: str, known: Any) -> None:
    for name in values:
        if name not in known:
            raise InputError(f"unknown key '{where}{name}' of a published config{nearest(name, [*known])}")
