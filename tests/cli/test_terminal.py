from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from pellucid.apply.options import Help, parse_offset
from pellucid.cli.terminal import takes


@dataclass(frozen=True)
class Options:
    """Some options."""

    size: Annotated[int, Help("The size.", min=2)] = 3
    offset: Annotated["Unknown", Help("What is added.", parse=parse_offset)] = "auto"  # type: ignore[name-defined]  # noqa: F821
    force: Annotated[bool, Help("Do it.", flags=("--force",))] = False
    hidden: Annotated[float, Help("Not here.")] = 0.5
    quiet: tuple[str, ...] = ()


def call(*words: str) -> tuple[int, str]:
    app = typer.Typer()

    @app.command()
    @takes(Options, hide=("hidden",))
    def command(name: str, *, options: Options) -> None:
        typer.echo(f"{name}: {options}")

    result = CliRunner().invoke(app, words)
    return result.exit_code, " ".join(result.output.split())


def test_options_become_those_of_the_command_with_their_defaults() -> None:
    assert call("a") == (0, f"a: {Options()}")
    found = call("a", "--size", "5", "--offset", "-1000", "--force")
    assert found == (0, f"a: {Options(size=5, offset=-1000, force=True)}")
    code, text = call("--help")
    assert code == 0
    for expected in ("The size.", "x>=2", "[default: 3]", "What is added.", "--force"):
        assert expected in text
    for absent in ("--hidden", "--quiet", "--no-force"):
        assert absent not in text


def test_values_out_of_bounds_and_unknown_words_are_refused() -> None:
    code, text = call("a", "--offset", "much")
    assert (code, text) == (
        2,
        "error: --offset is 'much', must be auto, none or a whole number such as -1000",
    )
    assert call("a", "--size", "1")[0] == 2
    assert call("a", "--hidden", "1")[0] == 2
