"""The command line: parses, calls artray.api, prints. The verbs are in artray.commands."""

import io
import sys
from typing import Annotated, Final

import typer

from artray import __version__
from artray.commands import ask, duplicates, judge, make, models
from artray.commands import train as training

app: Final = typer.Typer(
    name="artray",
    help="An archive of digitised artworks in, a searchable store out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app: Final = typer.Typer(help="Model cards: what models there are, and whether they work.", no_args_is_help=True)
judge_app: Final = typer.Typer(
    help="Which retrieval method is better, as people or labels see it.", no_args_is_help=True
)

VERBS: Final = (
    *(make.demo, make.sample, make.plan, make.process, make.embed, make.index, make.status, make.verify),
    *(ask.find, ask.sql, ask.similar, ask.show, ask.correct, ask.evaluate, ask.export),
    duplicates.duplicates,
    training.train,
    training.experiment,
    models.rehead,
)
for asked in VERBS:
    app.command()(asked)
for function in (models.list_, models.show, models.add, models.verify):
    models_app.command(function.__name__.rstrip("_"))(function)
app.add_typer(models_app, name="models")
for judging in (judge.start, judge.rate, judge.score, judge.labels):
    judge_app.command()(judging)
app.add_typer(judge_app, name="judge")


def main() -> None:
    """The console script."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"artray {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """An archive of digitised artworks in, a searchable store out."""
    del version
    for stream in (sys.stdout, sys.stderr):  # a terminal that does not know a character gets its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
