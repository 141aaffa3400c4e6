"""The card of a trained model: what it is, what it was trained on, what it reaches."""

import hashlib
import math
from collections.abc import Sequence

import yaml

from pellucid.config import Config
from pellucid.methods.method import Method
from pellucid.train.checkpoints import HISTORY, HistoryRow, best_row

# Rows of the history that the card shows, about.
CARD_ROWS = 20


def write_card(
    name: str,
    config: Config,
    method: Method,
    history: Sequence[HistoryRow],
    *,
    val_keys: Sequence[str] = (),
    command: str = "",
) -> str:
    """Return the text of card.md about the run `name`, whose saved weights are those of the best row.

    The `history` is empty without validation; `val_keys` are the names of the validation images, `command` is
    what the user typed.
    """
    options, data = config.train, config.data.model_dump(mode="json")
    num_parameters = sum(weight.numel() for weight in method.network.parameters())
    parts = [
        f"# {name}",
        f"Network `{config.network.get('name')}`, {num_parameters:,} parameters; method "
        f"`{config.method.name}`; {', '.join((*method.optical.bands, *method.radar.bands))}.",
        "## Data",
        f"```yaml\n{yaml.safe_dump(data, sort_keys=False).strip()}\n```",
        _describe_validation(val_keys),
        "## Training",
        f"```\n{command}\n```" if command else "",
        f"{options.samples_per_step} samples of {config.data.tile} x {config.data.tile} pixels per step, "
        f"{options.num_steps} steps in all, {options.precision}, seed {options.seed}. The complete settings "
        f"are in `config.yaml`, the whole curve is in `{HISTORY}`.",
        "## Figures",
        _describe_figures(history),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_validation(keys: Sequence[str]) -> str:
    if not keys:
        return ""
    digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
    return f"Validation: {len(keys)} images; SHA-256 of their sorted names, one per line: `{digest}`."


def _describe_figures(history: Sequence[HistoryRow]) -> str:
    rows = [row for row in history if "val_psnr" in row or "val_loss_total" in row]
    best = best_row(rows)
    if best is None:
        return "None. The weights are those of the last step, and how good they are was not measured."
    shown = [row for i, row in enumerate(rows) if i % math.ceil(len(rows) / CARD_ROWS) == 0 or row is best]
    names = [name for name in best if name not in ("seconds", "learning_rate")]
    lines = [" | ".join(f"{row.get(name, math.nan):.5g}" for name in names) for row in shown]
    return (
        f"The weights are those of step {best['step']:.0f}, {best['seconds'] / 3600:.2f} hours into the run. "
        f"They were chosen by {_explain_choice(names)}, so this figure flatters them."
        f"{_explain_baselines(names)}\n\n"
        f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n" + "\n".join(f"| {line} |" for line in lines)
    )


def _explain_choice(names: Sequence[str]) -> str:
    if "val_psnr" in names:
        return "`val_psnr`, the mean PSNR in dB over the whole validation images"
    return "`val_loss_total`, the lowest mean loss over the batches of the validation"


def _explain_baselines(names: Sequence[str]) -> str:
    known = {
        "val_psnr_input": "that of the input (bicubic where it is smaller, grey radar where it is coloured)",
        "val_psnr_spectrum": "that of the training images' mean spectrum",
        "val_ssim": "the mean SSIM of the restored images; every `loss_` is a weighted term of the loss",
        "val_found": "the share of the images of a batch that find their own text among its different ones",
        "val_chance": "the share that always naming the most frequent of these texts finds",
    }
    meanings = [f"`{name}` is {meaning}" for name, meaning in known.items() if name in names]
    return f" {'; '.join(meanings)}." if meanings else ""
