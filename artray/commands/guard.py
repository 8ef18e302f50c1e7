"""What all verbs share: options, examples in the help, errors as one line and an exit code, and printing.

Exit codes: 0 done; 1 done, but with failed images under --strict, or a promise is broken; 2 what the user gave is
wrong; 3 interrupted, or something outside failed: run again to resume.
"""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import typer

from artray.errors import ArtrayError, ConfigError, InvariantError

F = TypeVar("F", bound=Callable[..., Any])

EXIT_PROMISE: Final = 1
EXIT_USER: Final = 2
EXIT_OUTSIDE: Final = 3

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
ProfileOption = Annotated[str, typer.Option(help="A shipped profile (bundled, thorough, report) or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="section.key=value", help="Override a field of the profile.")
]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A folder or s3://bucket/prefix.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="painting or drawing.")]
GenreOption = Annotated[str | None, typer.Option("--genre", help="For example portrait or 'still life'.")]
ObjectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--object", metavar="[CATEGORY/]CLASS[:MIN_SCORE][xCOUNT]", help="What is depicted; may be given several times."
    ),
]
TextOption = Annotated[str | None, typer.Option("--text", help="Words of the file name or the metadata.")]

WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY(=|~|<|<=|>|>=)VALUE", help="What the metadata say, such as 'year>=1880'."),
]


def verb(*examples: str) -> Callable[[F], F]:
    """A command: its examples go into its help, its errors become one line and an exit code."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                result = function(*args, **kwargs)
                sys.stdout.flush()
            except BrokenPipeError:  # the reader has seen enough
                _close_stdout()
                raise typer.Exit(0) from None
            except KeyboardInterrupt:
                raise _fail("interrupted; run the same command again to go on", EXIT_OUTSIDE) from None
            except ArtrayError as error:
                raise _fail(str(error), _code(error)) from None
            except typer.Exit:
                raise
            except Exception as error:
                if os.environ.get("ARTRAY_TRACEBACK"):
                    raise
                message = f"{type(error).__name__}: {error}; this is a defect of artray: ARTRAY_TRACEBACK=1 shows where"
                raise _fail(message, EXIT_PROMISE) from None

            return result

        lines = "\n\n".join(f"    {example}" for example in examples)
        guarded.__doc__ = f"{(function.__doc__ or '').strip()}\n\nExamples:\n\n{lines}"
        return guarded  # type: ignore[return-value]

    return decorate


def _close_stdout() -> None:
    """Lead what is still to be written nowhere, or Python complains about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _code(error: ArtrayError) -> int:
    if isinstance(error, ConfigError):
        return EXIT_USER
    return EXIT_PROMISE if isinstance(error, InvariantError) else EXIT_OUTSIDE


def _fail(message: str, code: int) -> typer.Exit:
    from artray.console import safe

    typer.echo(f"artray: {safe(message)}", err=True)
    return typer.Exit(code)


def print_json(document: Any) -> None:
    r"""One JSON document on stdout; characters that it cannot show are written as \uXXXX."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2, default=str)
    typer.echo(text)


def print_parts(*parts: Any) -> None:
    """Tables and lines on stdout."""
    from artray.console import console, safe_lines

    out = console()
    for part in parts:
        out.print(safe_lines(part) if isinstance(part, str) else part, markup=False, soft_wrap=isinstance(part, str))
