"""Verbs of judging: start a campaign, rate what it found, and see what judges make of the methods."""

import io
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from artray.commands.guard import Json, StoreArgument, print_json, print_parts, verb
from artray.errors import ConfigError

if TYPE_CHECKING:
    from artray.retrieve.judging import Campaign, Task
    from artray.store.judge import Gallery

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The campaign's JSON file.")]
KEYS: Final = "3 good match, 2 okayish match, 1 no match; s skip, b back, q quit"
SHOWN: Final = (
    ("ndcg_report", "nDCG (report)"),
    ("accumulated", "accumulated"),
    ("ndcg", "nDCG"),
    ("ndcg_exponential", "nDCG (2^r - 1)"),
    ("precision", "good or okay"),
    ("precision_good", "good"),
)
COMPARED: Final = ("ndcg_report", "ndcg", "accumulated")
FEW: Final = 10
"""Queries: of fewer, a bootstrap knows too little of how much queries differ."""


@verb(
    "artray judge start /store kin.json --method embedding --method resnet50-genre --queries 20",
    "artray judge start /store kin.json --method embedding --method bag-of-words --queries queries.txt --held-out",
)
def start(
    store: StoreArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The campaign's JSON file, a new one.")],
    method: Annotated[
        list[str] | None, typer.Option("--method", help="A method of the store, as of similar; give two or more.")
    ] = None,
    queries: Annotated[
        str, typer.Option(help="How many to draw, evenly of types and genres, or a file with an image_id per line.")
    ] = "20",
    k: Annotated[int, typer.Option("-k", help="Results per method and query.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the queries drawn, and of the order in which pictures are shown.")] = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="No query is among the results of another.")] = False,
    as_json: Json = False,
) -> None:
    """Collect what several methods find for some queries, to be judged blind."""
    from artray.pipeline.progress import counting, reporter
    from artray.retrieve import judging
    from artray.store import judge, layout

    if file.exists():
        raise ConfigError(f"{file}: expected a new file, got one that is there; name another, or remove it")
    opened = layout.open_store(store)
    with reporter() as told:
        tell = counting(told, "asking", "questions")
        made = judge.start(opened, method or (), queries, k, seed, held_out=held_out, tell=tell)
    judging.save(made, file)
    found = {"campaign": made.name, "file": str(file), "queries": len(made.queries), "methods": list(made.methods)}
    found |= {"k": k, "pictures": len(made.pooled)}
    if as_json:
        return print_json(found)
    print_parts(
        f"{file}: {found['pictures']:,} pictures to rate for {found['queries']:,} queries",
        f"each judge now runs: artray judge rate {file} --by NAME",
    )
    return None


@verb("artray judge rate kin.json --by 'your name'", "artray judge rate kin.json --by 'your name' --out pair.jpg")
def rate(
    file: FileArgument,
    by: Annotated[str, typer.Option(help="The judge's name.")],
    out: Annotated[
        Path | None, typer.Option(help="Where the pictures to look at are written (.png, .jpg), one after the other.")
    ] = None,
    inline: Annotated[
        str, typer.Option(help="Show pictures in the terminal: auto, kitty, iterm or none of these (none).")
    ] = "auto",
    as_json: Json = False,
) -> None:
    """Rate pictures beside their queries, one at a time, until all are rated; ratings are kept as they are given.

    Keys: 3 good match, 2 okayish match, 1 no match, s skip, b back, q quit. Starting again goes on.
    """
    from artray.retrieve import judging
    from artray.store import judge, layout

    made = judging.load(file)
    if not made.store:
        raise ConfigError(
            f"{file}: expected a campaign of a store, got one that names none; its pictures are not known"
        )
    gallery = judge.Gallery(layout.open_store(made.store), made)
    with tempfile.TemporaryDirectory(prefix="artray-judge-") as folder, gallery:
        screen = _Screen(gallery, out or Path(folder) / "pair.png", inline)
        session = _Session(made, judging.judgements_path(file), by.strip(), screen)
        session.run()
    if as_json:
        return print_json(session.told())
    print_parts(f"{session.now:,} ratings; {session.left:,} of {len(session.tasks):,} pictures left for {by.strip()}")
    return None


@verb("artray judge score kin.json", "artray judge score kin.json --vote mean --sheets figures --json")
def score(
    file: FileArgument,
    judgements: Annotated[
        list[Path] | None, typer.Option(help="Files of judgements; by default the one beside FILE.")
    ] = None,
    vote: Annotated[str, typer.Option(help="How judges are put together: majority, or mean.")] = "majority",
    ideal: Annotated[
        str, typer.Option(help="Of nDCG: pool, the best that any method found, or retrieved, the method's own.")
    ] = "pool",
    sheets: Annotated[
        Path | None, typer.Option(help="A folder for a picture per query, with what each method found for it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What judges make of the methods, with 95 % intervals; methods compared in pairs, and judges with each other."""
    from artray.retrieve import judged, judging

    _one_of("--vote", vote, ("majority", "mean"))
    _one_of("--ideal", ideal, ("pool", "retrieved"))
    made = judging.load(file)
    paths = judgements or [judging.judgements_path(file)]
    if missing := [path for path in paths if not path.exists()]:
        raise ConfigError(f"{missing[0]}: no judgements yet; make some with: artray judge rate {file} --by NAME")
    told = judged.score(made, judging.judgements(made, paths), vote, ideal)  # type: ignore[arg-type]
    if sheets is not None:
        told["sheets"] = _save_sheets(made, sheets)
    if as_json:
        return print_json(told)
    _print_scores(told)
    return None


@verb(
    "artray judge labels /store metadata.artist --method embedding --method colours",
    "artray judge labels /store metadata.genre --method embedding --method embedding+pixels --clusters metadata.artist",
    "artray judge labels /store metadata.object --method embedding --ask kind=drawing --among kind=photograph",
)
def labels(
    store: StoreArgument,
    label: Annotated[
        str,
        typer.Argument(metavar="LABEL", help="type, genre, objects or metadata.KEY: works that share it are relevant."),
    ],
    method: Annotated[
        list[str] | None, typer.Option("--method", help="A method of the store, as of similar; A+B fuses two.")
    ] = None,
    same_work: Annotated[
        str | None, typer.Option(help="What reproductions of the same work share: they are no results of each other.")
    ] = None,
    clusters: Annotated[
        str | None, typer.Option(help="What queries share that are alike, such as metadata.artist: for the intervals.")
    ] = None,
    ask: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Which works are queries; as --where of find.")
    ] = None,
    among: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Which works can be results; likewise.")
    ] = None,
    others: Annotated[
        bool, typer.Option("--others", help="Rank works without the label, too: they are not relevant.")
    ] = False,
    queries: Annotated[int | None, typer.Option(help="At most so many queries, drawn by chance.")] = 10_000,
    k: Annotated[int, typer.Option("-k", help="Results that P, nDCG, recall and hits look at.")] = 5,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Judge methods by labels: which finds more works that share the query's.

    The store's own types and genres are what its classifier says; labels that people gave are better judges.
    """
    from artray.pipeline.progress import reporter
    from artray.store import judge_labels, layout

    question = judge_labels.Question(
        label, same_work, clusters, tuple(ask or ()), tuple(among or ()), others, queries, k, seed
    )
    opened, asked = layout.open_store(store), method or ("embedding",)
    with reporter() as told:
        found = judge_labels.judge(opened, asked, question, lambda name: told.phase(f"judging {name}"))
    if as_json:
        return print_json(found)
    _print_labelled(found)
    return None


def _print_labelled(told: dict[str, Any]) -> None:
    from artray import console

    names = ["map", f"p@{told['k']}", f"ndcg@{told['k']}", "hit@1", f"hit@{told['k']}"]
    rows = [[method, *(_interval(found[name], 3) for name in names)] for method, found in told["methods"].items()]
    parts: list[Any] = [console.table(["method", "mAP", f"P@{told['k']}", f"nDCG@{told['k']}", *names[3:]], rows)]
    parts += _comparisons(told, {row["measure"]: row["measure"] for row in told["comparisons"]})
    alone = f"; {told['without_relevant']:,} more have none to find" if told["without_relevant"] else ""
    print_parts(*parts, f"{told['queries']:,} queries among {told['works']:,} works, by {told['label']}{alone}")


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{option}: expected {' or '.join(known)}, got {value}")


def _save_sheets(made: "Campaign", folder: Path) -> list[str]:
    """A picture per query, named by its number; returns the paths."""
    from artray.retrieve import results_shown
    from artray.store import judge, layout

    store = layout.open_store(made.store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--sheets {folder}: cannot be made ({error.strerror}); name another folder") from error
    paths = [folder / f"query-{number:03}.jpg" for number in range(1, len(made.queries) + 1)]
    with judge.Gallery(store, made, judge.SHEET_SIDE_PX) as gallery:
        for path, query in zip(paths, made.queries, strict=True):
            results_shown.save(judge.sheet(gallery, made, query), path)
    return [str(path) for path in paths]


def _print_scores(told: dict[str, Any]) -> None:
    from artray import console

    parts: list[Any] = []
    if told["methods"]:
        rows = [
            [method, *(_interval(measures[name]) for name, _ in SHOWN)] for method, measures in told["methods"].items()
        ]
        parts.append(console.table(["method", *(title for _, title in SHOWN)], rows))
    parts += _comparisons(told, {name: title for name, title in SHOWN if name in COMPARED})
    print_parts(*parts, *_notes(told))


def _comparisons(told: dict[str, Any], titles: Mapping[str, str]) -> list[Any]:
    """The table of methods compared in pairs, by the measures that have a title; none where there are no pairs."""
    from artray import console

    rows = []
    for row in (row for row in told["comparisons"] if row["measure"] in titles):
        bounds = f"{row['low']:+.3f} to {row['high']:+.3f}"
        chances = [f"{row[name]:.3f}" if row[name] >= 0.0005 else "<0.001" for name in ("p", "p_holm")]
        between = [row["first"], row["second"], f"{row['difference']:+.3f}", bounds]
        rows.append([titles[row["measure"]], *between, *chances])
    return [console.table(["", "first", "second", "first - second", "95 %", "p", "p (Holm)"], rows)] if rows else []


def _notes(told: dict[str, Any]) -> list[str]:
    """What there is to know about the table."""
    judges = ", ".join(f"{by} {count:,}" for by, count in told["judges"].items()) or "none"
    ratings = ", ".join(f"{count:,} {name}" for name, count in told["ratings"].items())
    alpha = "not defined" if told["agreement"] is None else f"{told['agreement']:.3f}"
    notes = [
        f"{told['judged']:,} of {told['queries']:,} queries are fully judged ({told['vote']} of judges, ideal: "
        f"{told['ideal']}); the measures are of their first {told['k']}",
        f"ratings by judge, of {told['pictures']:,} pictures: {judges}; {ratings}",
        f"agreement of judges (Krippendorff's alpha, ordinal): {alpha}",
    ]
    if 0 < told["judged"] < FEW:
        notes.append(f"intervals of fewer than {FEW} queries are too narrow")
    if told["not_judged"]:
        notes.append(f"not fully judged, and left out: {', '.join(told['not_judged'])}")
    if told["broken_lines"]:
        notes.append(f"{told['broken_lines']:,} lines of the judgements were cut short, and are left out")
    return notes


def _interval(found: dict[str, float], digits: int = 2) -> str:
    value, low, high = (f"{found[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


class _Screen:
    """Where a judge looks: a picture file that changes, the terminal where it can show pictures, and lines."""

    def __init__(self, gallery: "Gallery", out: Path, inline: str) -> None:
        from artray.commands import inline as terminal
        from artray.store.pictures import check_name

        _one_of("--inline", inline, ("auto", "kitty", "iterm", "none"))
        check_name(out)
        self.gallery, self.out, self.said = gallery, out, False
        auto = terminal.protocol(os.environ) if sys.stderr.isatty() else ""
        self.kind = auto if inline == "auto" else inline

    def show(self, task: "Task") -> None:
        """Write the pair, and show it."""
        from artray.commands.inline import inline
        from artray.retrieve import results_shown

        image = self.gallery.pair(task)
        results_shown.save(image, self.out)
        if not self.said:
            self.line(f"look at {self.out}, which changes with every picture")
            self.said = True
        data = io.BytesIO()
        image.save(data, format="PNG")
        typer.echo(inline(data.getvalue(), self.kind), err=True, nl=False)
        for name in {task.query, task.image_id} & self.gallery.failed.keys():
            self.line(f"no picture: {self.gallery.failed[name]}")

    def line(self, text: str) -> None:
        """A line, beside the answer of the command."""
        from artray.console import safe

        typer.echo(safe(text), err=True)

    def key(self) -> str:
        """What the judge presses; of a pipe the next line, q at its end."""
        typer.echo("rating: ", err=True, nl=False)
        if sys.stdin.isatty():
            pressed = typer.getchar()
            typer.echo(pressed if pressed.isprintable() else "", err=True)
            return "q" if pressed in ("", "\x04") else pressed.lower()
        line = sys.stdin.readline()
        typer.echo("", err=True)
        return line.strip().lower() if line else "q"


class _Session:
    """One judge's way through the tasks that are left."""

    def __init__(self, made: "Campaign", path: Path, by: str, screen: _Screen) -> None:
        from artray.retrieve import judging

        if not by:
            raise ConfigError("--by: expected the judge's name, got none")
        self.made, self.path, self.by, self.screen = made, path, by, screen
        self.tasks = made.tasks(by)
        self.rated = dict(judging.judgements(made, [path]).ratings.get(by, {}))
        self.place, self.now = -1, 0

    @property
    def left(self) -> int:
        """Tasks without a rating."""
        return len(self.tasks) - len(self.rated)

    def run(self) -> None:
        """Show and ask, until the judge leaves or nothing is left ahead."""
        self._forward()
        while self.place < len(self.tasks):
            self.screen.show(self.tasks[self.place])
            self.screen.line(self._headline())
            if not self._answered():
                return

    def told(self) -> dict[str, Any]:
        """What became of it, for --json."""
        return {
            "campaign": self.made.name,
            "by": self.by,
            "now": self.now,
            "rated": len(self.rated),
            "left": self.left,
            "judgements": str(self.path),
        }

    def _answered(self) -> bool:
        """Do what the judge says; False where that is to leave."""
        from artray.retrieve import judging

        while True:
            key = self.screen.key()
            if key in ("1", "2", "3"):
                task = self.tasks[self.place]
                judging.judge(self.path, self.made, self.by, task, int(key))
                self.rated[task], self.now = int(key), self.now + 1
                self._forward()
            elif key == "s":
                self._forward()
            elif key == "b":
                self.place = max(0, self.place - 1)
            elif key != "q":
                self.screen.line(f"expected {KEYS}, got {key!r}")
                continue
            return key != "q"

    def _forward(self) -> None:
        """To the next task that this judge has not rated."""
        self.place += 1
        while self.place < len(self.tasks) and self.tasks[self.place] in self.rated:
            self.place += 1

    def _headline(self) -> str:
        task = self.tasks[self.place]
        queries = list(dict.fromkeys(one.query for one in self.tasks))
        pool = [one for one in self.tasks if one.query == task.query]
        before = f"; rated {self.rated[task]} before" if task in self.rated else ""
        return (
            f"query {queries.index(task.query) + 1} of {len(queries)}, picture {pool.index(task) + 1} of {len(pool)}; "
            f"{self.left} left{before} ({KEYS})"
        )
