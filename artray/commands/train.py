"""Verbs that train models: train, experiment."""

from pathlib import Path
from typing import Annotated, Any

import typer

from artray import api
from artray.commands.guard import EXIT_PROMISE, Json, Overrides, print_json, print_parts, verb


@verb(
    "artray train type.yaml --check",
    "artray train type.yaml --out /runs/type --set optimiser.lr=0.001",
    "artray train type.yaml --out s3://museum/runs/type --set workers.workers=8 --set workers.device=cuda",
    "artray train efficientnet-lite2-art --data ../shared/data",
    "artray train vae-i --data ../shared/data",
)
def train(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="A YAML file (docs/training.md), or a model of artray's.")
    ],
    out: Annotated[str | None, typer.Option(help="The training's folder or s3://...; by default runs/NAME.")] = None,
    data: Annotated[str | None, typer.Option(help="The folder that its sets lie below; by default its own.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only read the labels, and say what cannot be used.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train a classifier, detector or retrieval method and write its card. Interrupted, it resumes: run it again."""
    from artray.pipeline.progress import reporter

    if check:
        _check(api.labels(profile, data=data, set=overrides or ()), as_json)
        return
    result = api.train(profile, out, data=data, set=overrides or (), reporter=reporter())
    if as_json:
        print_json(result)
        return
    _show(result)


def _next(card: str, use: str) -> str:
    if "://" in card:
        return f"Try next:\n  copy {card} and its weights to a folder, then artray models add it\n"
    return f"Try next:\n  artray models add {card}\n  then {use}\n"


def _check(found: dict[str, Any], as_json: bool) -> None:
    from artray import console

    if as_json:
        print_json(found)
    else:
        for entry in found["sets"]:
            table = console.table(["", "class", "works", "report"], _counted(entry))
            print_parts(f"{entry['set']}: {entry['title']}", *([entry["note"]] if entry["note"] else []), table)
        print_parts(*found["left_out"], f"{found['works']:,} works; {len(found['left_out']):,} lines cannot be used")
    if found["left_out"]:
        raise typer.Exit(EXIT_PROMISE)


def _counted(entry: dict[str, Any]) -> list[list[str]]:
    """A set's classes, those of the report that it lacks among them."""
    found = {name for counts in entry["counts"].values() for name in counts}
    lacking = [["", name, "0", f"{count:,}"] for name, count in entry["report"].items() if name not in found]
    return [
        [task, name, f"{count:,}", f"{entry['report'][name]:,}" if name in entry["report"] else ""]
        for task, counts in entry["counts"].items()
        for name, count in counts.items()
    ] + lacking


def _show(result: dict[str, Any]) -> None:
    from artray import console

    for task, report in result.get("heads", {}).items():
        part = "test" if report["test"]["works"] else "val"
        told = report[part]
        rows = [
            [name, f"{found['value']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}"]
            for name, found in told.get("metrics", {}).items()
        ]
        print_parts(f"{task}, on {told['works']:,} works of {part}:", console.table(["", "", "95 %"], rows))
        print_parts(*_apart(task, told, report["classes"]))
    if "parts" in result:
        print_parts(*_boxes(result["parts"]))
    if "losses" in result:
        print_parts(*_losses(result))
    folder = result["folder"]
    epochs = [
        f"best of {result['epochs']} epochs: {result['best_epoch']}, by {result.get('chosen_by')}",
        f"curves: {Path(folder) / 'curves.png'}" if "://" not in folder else f"curves: {folder}/curves.png",
    ]
    if "losses" in result:
        use = f"artray embed ARCHIVE STORE --method {Path(result['card']).stem}"
    else:
        use = f"name it in {'detect' if 'parts' in result else 'classify'}.cards of a profile"
    at_once = f"{result['method']} learned" if "losses" in result else "heads fitted to the trunk's features"
    print_parts(
        *(epochs if result["epochs"] else [f"{at_once}, without epochs"]),
        _next(str(result["card"]), use),
    )


def _losses(result: dict[str, Any]) -> list[Any]:
    """An autoencoder's losses over validation and test, and how much of its latent is of use."""
    from artray import console

    rows = [
        [part, *(f"{terms[name]:.4f}" for name in ("reconstruction", "kl", "loss"))]
        for part, terms in result["losses"].items()
    ]
    if not rows:
        return []
    table = console.table(["", "reconstruction", "kl", "loss"], rows)
    return [table, f"dimensions of the latent that say something of a picture: {result['active_dimensions']:,}"]


def _boxes(parts: dict[str, Any]) -> list[Any]:
    """AP@.5 per set and class, of the test or of validation where there is none."""
    from artray import console

    part = "test" if any(told["classes"] for told in parts["test"]["sets"].values()) else "val"
    told: list[Any] = []
    for title, found in parts[part]["sets"].items():
        rows = [
            [name, f"{each['boxes']:,}", f"{each['ap50']:.3f}", f"{each['ap50_low']:.3f} to {each['ap50_high']:.3f}"]
            for name, each in found["classes"].items()
        ]
        if rows:
            told.append(f"{title}, on {found['pictures']:,} pictures of {part}:")
            told.append(console.table(["", "boxes", "AP@.5", "95 %"], rows))
    return told


def _apart(task: str, told: dict[str, Any], classes: list[str]) -> list[Any]:
    """Tables of the F1 per class among grey works and those in colour, and per set."""
    from artray import console

    tables: list[Any] = []
    for name, values in told.get("apart", {}).items():
        rows = [
            [value, *(f"{found['metrics'][f'f1 {label}']['value']:.3f}" for label in classes), f"{found['works']:,}"]
            for value, found in values.items()
        ]
        if len(rows) > 1:
            tables += [f"{task}, F1 by {name}:", console.table(["", *classes, "works"], rows)]
    return tables


@verb(
    "artray experiment table4 --data /data --out /runs/table4",
    "artray experiment table4 --small --data ../shared/data",
    "artray experiment table3 --data s3://museum/sets --set base.workers.workers=8 --set base.workers.device=cuda",
    "artray experiment detection-ablation --small --data /sets",
)
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE",
            help="table3 ... table10 of the report, detection-table5, -table6, -ablation, or a YAML file.",
        ),
    ],
    out: Annotated[str | None, typer.Option(help="The experiment's folder; by default experiments/NAME.")] = None,
    data: Annotated[str | None, typer.Option(help="The folder that the sets lie below.")] = None,
    small: Annotated[bool, typer.Option("--small", help="The variant for a machine without a GPU.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Redo a table of the report: a grid of trainings with repeats, beside the published figures. It resumes."""
    from artray.pipeline.progress import reporter

    told = api.experiment(name, out, data=data, small=small, set=overrides or (), reporter=reporter())
    print_json(told) if as_json else print_parts(told["markdown"], f"table: {told['folder']}/table.md and table.csv")
