"""Teach smaller networks to judge what is clear and to refine as those of a trained `ground`; all else stays.

    PELLUCID_DATA=../shared/data python -m benchmarks.distil_looks ground runs/ground_small \
        [--clear-widths 24 32 48 64] [--refine-widths 32 48 64] [--steps 4000]

The samples are those of the config. Both networks of the model look at them, and the smaller ones learn to
give the same maps from the same inputs. What is left of the variance of each is printed as it falls.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss, softplus

from benchmarks.distillation import Follower, build_student, read_teacher
from pellucid.build.run import save_run
from pellucid.config import Config
from pellucid.methods.ground import Ground
from pellucid.networks._clearness import Clearness
from pellucid.networks.ground import GroundNet
from pellucid.train.data import build_training_data
from pellucid.train.loaders import train_loader

# Crops of a step, learning rate, largest gradient; errors beyond the last count by their size alone.
BATCH, RATE, CLIP, LARGE = 8, 1.5e-3, 1.0, 0.3
# Logits beyond this are alike.
SUREST = 7.0
# What counts as an error of 1: of logits, amounts of haze and doubt; of changes, doubt, trust and logit.
SCALES = {
    "clear": 2 * [3.0] + 12 * [0.03] + 4 * [1.0],
    "refine": 13 * [0.1] + 13 * [0.6] + 13 * [1.2] + [2.0],
}
REPORT, SAVE = 50, 250


def main() -> None:
    """Train, and save the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run of ground, or its name")
    parser.add_argument("out", type=Path, help="folder of the new run")
    parser.add_argument("--clear-widths", type=int, nargs="+", default=[24, 32, 48, 64])
    parser.add_argument("--refine-widths", type=int, nargs="+", default=[32, 48, 64])
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    config, teacher = read_teacher(parser, options.run)
    sizes = {"clear_widths": options.clear_widths, "refine_widths": options.refine_widths}
    distil(config, teacher, options.out, sizes, options.steps)


def distil(
    config: Config, teacher: Ground, out: Path, sizes: Mapping[str, Sequence[int]], steps: int
) -> dict[str, float]:
    """Save the run whose networks have other sizes; return what each misses of the variance."""
    train = config.train.model_copy(update={"num_steps": steps, "batch": BATCH})
    own = ("clearness.unet.", "clearness.of_bands.", "refine.")
    config, student = build_student(config, teacher, sizes, own)
    data = build_training_data(config.model_copy(update={"train": train}))
    loader = train_loader(SimpleNamespace(global_step=0, global_rank=0, world_size=1), data.stream, train)
    pupils = {"clear": Pupil("clear", student.network.clearness, steps)}
    pupils["refine"] = Pupil("refine", student.network.refine, steps)
    generator, start = torch.Generator().manual_seed(0), time.monotonic()
    for step, batch in enumerate(loader, 1):
        with Watched(teacher.network) as watched, torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            teacher.loss(batch, generator)
        for name, example in watched.seen.items():
            pupils[name].learn(step, *example)
        if step % REPORT == 0:
            parts = ", ".join(f"{pupil.share:.2%} of {name}" for name, pupil in pupils.items())
            print(f"step {step}, {time.monotonic() - start:.0f} s: {parts} is missed", flush=True)
        if step % SAVE == 0 or step == steps:
            held = [pupil.swap() for pupil in pupils.values()]
            save_run(out, config=config, method=student, half=True)
            for pupil, values in zip(pupils.values(), held, strict=True):
                pupil.network.load_state_dict(values)
    return {name: pupil.share for name, pupil in pupils.items()}


class Watched:
    """Notes what the networks of a model are given, and what they give."""

    def __init__(self, network: GroundNet) -> None:
        self.network, self.seen = network, dict[str, tuple[tuple[Tensor, ...], Tensor]]()

    def __enter__(self) -> "Watched":
        known = list[Tensor]()
        clearness = self.network.clearness
        self.hooks = [
            clearness.of_bands.register_forward_hook(lambda _, given, __: known.append(given[0])),
            clearness.unet.register_forward_hook(
                lambda _, given, made: self.seen.update(clear=((given[0], known[-1]), made.float()))
            ),
            self.network.refine.register_forward_hook(
                lambda _, given, made: self.seen.update(refine=((given[0],), made.float()))
            ),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


class Pupil:
    """A network that learns to give the maps of another; its weights become their moving average."""

    def __init__(self, name: str, network: nn.Module, steps: int) -> None:
        self.network = network
        self.scale = torch.tensor(SCALES[name])[:, None, None]
        parts = [network.unet, network.of_bands] if isinstance(network, Clearness) else [network]
        parameters = [value for part in parts for value in part.parameters()]
        self.follower = Follower(network, parameters, steps, rate=RATE, clip=CLIP)
        self.share = math.nan
        with torch.no_grad():  # what the last layer is 0 or small in would learn late
            weight = parts[0].get_parameter("widen.weight")
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
            weight.mul_(0.3)

    def learn(self, step: int, given: tuple[Tensor, ...], wanted: Tensor) -> None:
        """Take one step towards what is wanted."""
        given = tuple(x.clone() for x in given)
        with torch.autocast("cpu", torch.bfloat16):
            if isinstance(self.network, Clearness):
                found = self.network.unet(given[0], self.network.of_bands(given[1])).float()
                score = 8 * given[0][:, -1:].float()
                found, wanted = (_comparable(x, score) for x in (found, wanted))
            else:
                found = self.network(*given).float()
                found, wanted = (x.clamp(-SUREST, SUREST) for x in (found, wanted))
        self.follower.step(step, smooth_l1_loss(found / self.scale, wanted / self.scale, beta=LARGE))
        missed = float(((found.detach() - wanted) / self.scale).square().mean())
        self.share = missed if math.isnan(self.share) else self.share + 0.02 * (missed - self.share)

    def swap(self) -> dict[str, Tensor]:
        """Take the moving average as weights, and return those that learn."""
        held = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.follower.mean)
        return held


def _comparable(maps: Tensor, score: Tensor) -> Tensor:
    """Return what the U-Net of `Clearness` gives as it acts: logits less the score, amounts above 0."""
    judged, haze, doubt = maps[:, :2], maps[:, 2:-4], maps[:, -4:]
    return torch.cat([(judged - score).clamp(-SUREST, SUREST), softplus(haze), doubt], 1)


if __name__ == "__main__":
    main()
