"""The networks on a GPU: time, throughput, memory and exactness, as a Markdown table; torch alone is needed.

    PYTHONPATH=src python -m benchmarks.gpu [--seconds 150] [--output gpu.json]

The most important parts come first; what does not fit into the time, or fails, is named and left out. Rates
are those of the plain published formulation's operations, and shares those of what a 3 x 3 convolution of 128
channels reaches on the same card in the same run.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.card import PRECISIONS, Bench, Row, Run, multiplied
from benchmarks.plain import plain
from pellucid.networks import _fused, cross_attention, glf_cr, ground
from pellucid.networks._clearness import BANDS, Seen
from pellucid.networks._dynamic_filter import dynamic_filter

NETWORKS = ("glf_cr", "cross_attention", "ground")
# Of the dynamic filter: pixels and channels of a program, warps; of windows: warps; of the perceptron: pixels
# of a program, warps.
FILTERS = (((64, 32), 4), ((128, 32), 4), ((128, 32), 8), ((64, 64), 4), ((128, 64), 8))
WINDOWS = (4, 8)
FINISHES = ((64, 4), (128, 8), (32, 4))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=150, help="after which no part is begun")
    parser.add_argument("--tiles", type=int, default=8, help="in a batch")
    parser.add_argument("--size", type=int, default=256, help="side of a tile in pixels")
    parser.add_argument("--small", action="store_true", help="tiny networks, for a try on a CPU")
    parser.add_argument("--output", type=Path, help="JSON file of all that was measured")
    options = parser.parse_args()
    bench = Bench(options.seconds, options.tiles, options.size, small=options.small, output=options.output)
    torch.manual_seed(0)
    measure_all(bench)
    print("\n" + "\n".join(f"{note}" for note in bench.notes))
    print("", Row.HEAD, *bench.rows, sep="\n")


def measure_all(bench: Bench) -> None:
    """Measure part after part."""
    bench.part("machine", bench.machine)
    on_gpu = bench.device.type == "cuda"
    if _fused.HAS_TRITON and on_gpu and not bench.part("kernels", partial(check_kernels, bench)):
        _fused.HAS_TRITON = False  # the rest is measured without them
    subjects: list[Subject] = []
    for name in NETWORKS:
        if bench.part(f"{name}, plain", lambda name=name: subjects.append(Subject(name, bench))):  # type: ignore[misc]
            bench.part(f"{name}, bf16", subjects[-1].in_bf16)
    for subject in subjects:
        bench.part(f"{subject.name}, profile", partial(bench.profile, subject.name, subject.run("bf16")))
    if _fused.HAS_TRITON and on_gpu and bench.part("blocks of kernels", partial(tune, bench), at_least=20):
        for subject in subjects[:1]:
            bench.part("with them", partial(subject.graphed, "bf16", "ours, best blocks, graph"))
    for subject in subjects:
        bench.part(f"{subject.name}, compiled", subject.compiled, at_least=25, at_most=70)
    for precision in ("tf32", "fp32"):
        for subject in subjects:
            bench.part(f"{subject.name}, {precision}", partial(subject.in_float32, precision))


class Subject:
    """A network with random weights and a batch; the plain formulation in fp32 is its reference."""

    def __init__(self, name: str, bench: Bench) -> None:
        self.name, self.bench = name, bench
        network = make_network(name, small=bench.small).eval().to(bench.device)
        self.network = network
        self.inputs = make_inputs(name, bench)
        self.plain = network if name == "ground" else self.on_device(plain(network, bench.size))
        with torch.inference_mode(), multiplied("highest"), FlopCounterMode(display=False) as counter:
            bench.exact[name] = self.run("fp32", self.plain)().clone()
        bench.flops[name] = counter.get_total_flops()
        if name == "ground":
            return
        bench.measure(name, "bf16", "plain", self.run("bf16", self.plain))

    def on_device(self, network: nn.Module) -> nn.Module:
        """Return the plain network with its masks on the device."""
        device = self.bench.device
        for key, value in vars(network).items():
            if isinstance(value, Tensor):
                setattr(network, key, value.to(device))
        if isinstance(masks := getattr(network, "masks", None), dict):
            moved = {layer: None if mask is None else mask.to(device) for layer, mask in masks.items()}
            network.masks = moved  # type: ignore[assignment]
        return network

    def run(self, precision: str, network: nn.Module | None = None) -> Run:
        """Return a function that gives the image."""
        subject = self.network if network is None else network
        half = PRECISIONS[precision][0]
        kind = self.bench.device.type

        def image() -> Tensor:
            mixed: AbstractContextManager[Any] = torch.autocast(kind, torch.bfloat16, enabled=bool(half))
            with torch.no_grad(), mixed:
                out = subject(*self.inputs)
            return out[1].image if self.name == "ground" else out

        return image

    def in_bf16(self) -> None:
        """Measure without kernels, with them, and without the time of the CPU."""
        name, bench = self.name, self.bench
        if name == "glf_cr" and _fused.HAS_TRITON and bench.device.type == "cuda":
            with without_kernels():
                bench.measure(name, "bf16", "ours, no kernels", self.run("bf16"))
        bench.measure(name, "bf16", "ours", self.run("bf16"))
        self.graphed("bf16", "ours, graph")

    def in_float32(self, precision: str) -> None:
        """Measure in float32, however it is multiplied."""
        if self.name != "ground":
            self.bench.measure(self.name, precision, "plain", self.run(precision, self.plain))
        self.bench.measure(self.name, precision, "ours", self.run(precision))
        self.graphed(precision, "ours, graph")

    def graphed(self, precision: str, variant: str, network: nn.Module | None = None) -> None:
        """Measure as a CUDA graph, which needs no time of the CPU."""
        if self.bench.device.type == "cuda":
            with torch.inference_mode(), multiplied(PRECISIONS[precision][1]):
                replay = graph(self.run(precision, network))
            self.bench.measure(self.name, precision, variant, replay)

    def compiled(self) -> None:
        """Measure with `torch.compile`: of GLF-CR its parts, which repeat."""
        if isinstance(self.network, glf_cr.GlfCrNet):
            for part in (*self.network.RDBs, *self.network.DF):
                part.compile(dynamic=False)
            compiled: Any = self.network
        else:
            compiled = torch.compile(self.network, dynamic=False)
        self.bench.measure(self.name, "bf16", "ours, compiled", self.run("bf16", compiled))
        self.graphed("bf16", "ours, compiled, graph", compiled)


def graph(run: Run) -> Run:
    """Return a function that repeats the work of `run` as one CUDA graph, with the same output tensor."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    made = torch.cuda.CUDAGraph()
    with torch.cuda.graph(made):
        image = run()

    def replay() -> Tensor:
        made.replay()
        return image

    return replay


class without_kernels:  # noqa: N801 - used as a function
    """Run plain PyTorch where kernels are used else."""

    def __enter__(self) -> None:
        self.before, _fused.HAS_TRITON = _fused.HAS_TRITON, False

    def __exit__(self, *_: object) -> None:
        _fused.HAS_TRITON = self.before


def check_kernels(bench: Bench) -> None:
    """Say how far the kernels are from plain PyTorch in float64, next to plain PyTorch in the same type."""
    side = bench.size // 2
    channels, heads = (16, 2) if bench.small else (96, 8)
    config = glf_cr.Config(width=channels, growth=channels // 2, num_heads=heads)
    layer = glf_cr.DenseLayer(channels, config, shifted=True, drop_path=0.0).eval().to(bench.device)
    maker = glf_cr.FilterGenerator(channels, config.kernel).eval().to(bench.device)
    images = [torch.randn(2, channels, side, side, device=bench.device) for _ in range(2)]
    images = [image.contiguous(memory_format=torch.channels_last) for image in images]
    last = maker.fac_warp[-1]
    for kind, module in (("filter", maker), ("window layer", layer)):
        for precision, (dtype, matmul) in PRECISIONS.items():
            found = []
            for exact, kernels in ((True, False), (False, False), (False, True)):
                made = module.double() if exact else module.float()
                given = [image.double() if exact else image for image in images]
                mixed = torch.autocast(bench.device.type, torch.bfloat16, enabled=bool(dtype) and not exact)
                with torch.inference_mode(), multiplied(matmul), mixed:
                    if kernels:
                        out = _sides(kind, made, given, last)
                    else:
                        with without_kernels():
                            out = _sides(kind, made, given, last)
                found.append(out.double())
            errors = [float((out - found[0]).norm() / found[0].norm()) for out in found[1:]]
            most = float((found[2] - found[0]).abs().max())
            bench.note(
                f"{kind}, {precision}: error of PyTorch {errors[0]:.1e}, of the kernel {errors[1]:.1e}, "
                f"at most {most:.1e}"
            )


def _sides(kind: str, module: Any, images: list[Tensor], last: Any) -> Tensor:
    if kind == "filter":
        features = module.fac_warp[0](torch.cat(images, 1))
        return dynamic_filter(images[1].to(features.dtype), features, *last.parameters(), slope=glf_cr.SLOPE)
    return torch.cat(module(*images), 1)


def tune(bench: Bench) -> None:
    """Find the fastest blocks of each kernel in bf16, and use them from now on."""
    from pellucid.networks import _kernels

    side, channels = bench.size // 2, 96
    like: dict[str, Any] = {"device": bench.device, "dtype": torch.bfloat16}
    image, features = (torch.randn(bench.tiles, side, side, channels, **like) for _ in range(2))
    weight, bias = torch.randn(25, channels, channels, **like), torch.randn(25, channels, **like)
    layer = glf_cr.DenseLayer(channels, glf_cr.Config(), shifted=True, drop_path=0.0).eval().to(bench.device)
    x, y = (torch.randn(bench.tiles, 48, side, side, **like) for _ in range(2))
    x, y = (image.contiguous(memory_format=torch.channels_last) for image in (x, y))
    filtered: Run = lambda: _kernels.dynamic_filter(image, features, weight, bias, 0.1)  # noqa: E731
    attended: Run = lambda: layer.at_once(x, y)  # noqa: E731
    choose(bench, "filter", _kernels, ("FILTER_BLOCK", "FILTER_WARPS"), FILTERS, filtered)
    choose(bench, "windows", _kernels, ("WINDOW_WARPS",), [(warps,) for warps in WINDOWS], attended)
    choose(bench, "perceptron", _kernels, ("FINISH_BLOCK", "FINISH_WARPS"), FINISHES, attended)


def choose(
    bench: Bench, kind: str, module: Any, names: tuple[str, ...], choices: Any, run: Callable[[], Any]
) -> None:
    """Set the names of the module to the choice with which `run` is fastest."""
    before = tuple(getattr(module, name) for name in names)
    times = {before: float("inf")}
    for choice in choices:
        for name, value in zip(names, choice, strict=True):
            setattr(module, name, value)
        try:
            with torch.inference_mode():
                times[choice] = bench.milliseconds(run, seconds=0.1)
            bench.note(f"{kind} {choice}: {times[choice]:.3f} ms")
        except TimeoutError:
            break
        except Exception as error:
            bench.note(f"{kind} {choice}: failed, {type(error).__name__} {str(error)[:120]}")
    best = min(times, key=lambda choice: times[choice])
    for name, value in zip(names, best, strict=True):
        setattr(module, name, value)


def make_network(name: str, *, small: bool) -> nn.Module:
    """Return the network of this name at its published size, or tiny."""
    if name == "glf_cr":
        tiny = glf_cr.Config(width=16, growth=16, num_blocks=1, num_layers=2, num_heads=2, window=4)
        return glf_cr.build(tiny if small else glf_cr.Config())
    if name == "cross_attention":
        return cross_attention.build(cross_attention.Config(width=8) if small else cross_attention.Config())
    return ground.build(ground.Config())


def make_inputs(name: str, bench: Bench) -> tuple[Any, ...]:
    """Return what the network is called with."""
    size = (bench.tiles, len(BANDS), bench.size, bench.size)
    degraded = torch.rand(size, device=bench.device) / 2
    sar = torch.rand(bench.tiles, 2, *size[2:], device=bench.device)
    if name != "ground":
        return degraded, sar
    known = torch.ones(size[:2], device=bench.device)
    return (Seen(degraded, known, torch.ones_like(sar[:, :1]), sar),)


if __name__ == "__main__":
    main()
