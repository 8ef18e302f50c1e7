"""Verbs on model cards: list, show, add, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from artray import api
from artray.commands.guard import EXIT_PROMISE, Json, StoreArgument, print_json, print_parts, verb

if TYPE_CHECKING:
    from artray.models.verify import Verified


@verb("artray models list")
def list_(as_json: Json = False) -> None:
    """Every card that artray knows; exits with 2 if one is wrong, after those that are right."""
    from artray import console
    from artray.errors import ConfigError
    from artray.models import cards

    found, wrong = list[cards.Card](), list[ConfigError]()
    for name in sorted(cards.known()):
        try:
            found.append(cards.load(name))
        except ConfigError as error:
            wrong.append(error)
    if as_json:
        print_json([card.model_dump(mode="json") for card in found])
    else:
        rows = [[card.name, card.task, card.architecture, ", ".join(card.yields), card.licence] for card in found]
        print_parts(console.table(["card", "task", "architecture", "yields", "licence"], rows))
    if wrong:
        raise wrong[0]


@verb("artray models show efficientnet-lite2-art")
def show(name: Annotated[str, typer.Argument(help="A card's name or file.")], as_json: Json = False) -> None:
    """One card: data, licence, metrics."""
    import yaml

    from artray.models import cards

    card = cards.load(name).model_dump(mode="json")
    print_json(card) if as_json else print_parts(yaml.safe_dump(card, sort_keys=False, allow_unicode=True))


@verb("artray models add my-card.yaml")
def add(path: Annotated[Path, typer.Argument(help="A card's YAML file.")], as_json: Json = False) -> None:
    """Make a card of your own known by its name."""
    from artray.models import cards

    card = cards.add(path)
    print_json(card.model_dump(mode="json")) if as_json else print_parts(f"{card.name} can now be named in a profile")


@verb("artray models verify", "artray models verify mtcnn")
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Cards; without any, all of them.")] = None,
    as_json: Json = False,
) -> None:
    """Hash, load and run every card that can be reached; exits with 1 if one does not work."""
    from artray import console
    from artray.models import cards

    for name in names or ():
        cards.load(name)  # what the user names must be there; of all cards, a broken one hides no other
    found = [(name, _verified(name)) for name in names or sorted(cards.known())]
    if as_json:
        print_json([{"name": name} | result._asdict() for name, result in found])
    else:
        rows = [[name, STATES[result.ok], result.detail, f"{result.seconds:.1f}"] for name, result in found]
        print_parts(console.table(["card", "", "", "seconds"], rows))
    if any(result.ok is False for _, result in found):
        raise typer.Exit(EXIT_PROMISE)


STATES: Final = {True: "ok", False: "BROKEN", None: "-"}


def _verified(name: str) -> "Verified":
    """What became of a card, even of one that cannot be read: the others are still to come."""
    from artray.errors import ConfigError
    from artray.models import cards
    from artray.models.verify import Verified, verify

    try:
        return verify(cards.load(name))
    except ConfigError as error:
        return Verified(False, str(error), 0.0)


@verb("artray rehead /store my-card", "artray rehead /store runs/type/card/type.yaml --no-index")
def rehead(
    store: StoreArgument,
    card: Annotated[str, typer.Argument(metavar="CARD", help="A card's name or file, with the trunk of the store's.")],
    index: Annotated[bool, typer.Option(help="Bring the vectors up to date afterwards.")] = True,
    as_json: Json = False,
) -> None:
    """New types and genres for a finished store from its stored embeddings, in seconds; no image is read."""
    from artray.pipeline.progress import reporter

    done = api.rehead(store, card, index=index, reporter=reporter())
    if as_json:
        print_json(done)
        return
    changed = ", ".join(f"{count:,} have another {name}" for name, count in done["changed"].items())
    print_parts(
        f"{done['rows']:,} works have the labels of {card}, {done['skipped']:,} stay as they were: {changed}",
        f"the labels before are version {done['version_before']} of the records",
        f"from now on: artray process ARCHIVE {store} --set classify.cards=[{card}]",
    )
