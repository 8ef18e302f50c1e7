"""A question as people ask it: by pictures of the store or any other, by a region, by colours, by several methods."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from artray.errors import ConfigError
from artray.retrieve import colours, embedder, ranking
from artray.store import find, pictures, views
from artray.store.find import Filters
from artray.store.layout import Store
from artray.store.records import Records
from artray.store.similar import MAX_K, METHOD, Query, Similar, search, source
from artray.store.vectors import Index

REGION_SIDE_PX: Final = 4_096
"""A region is cut out of a picture of this size, so that small ones are not blurred."""

COLOURS: Final = "colours"
"""The method that a question by colours asks."""

FUSED_DEPTH: Final = 100
"""So many works of each method at least are looked at where several are fused."""

NONE: Final[Mapping[str, Index]] = MappingProxyType({})


class Question(NamedTuple):
    """What works are to be like.

    Args:
        like: image_ids of the store, or else paths of pictures; at least one of these, of words or of colours.
        unlike: likewise, what they are not to be like.
        region: x1, y1, x2, y2 in pixels of the first upright original; only that part of it counts.
        words: what is to be seen, of a method that knows words.
        colours: "#rrggbb" each, or "#rrggbb:SHARE", instead of pictures and words.
        methods: whose embeddings; the rankings of several are fused.
        k: how many works, at most.
        offset: how many of the most similar ones to leave out: the next page.
        filters: what they must be.
        expand: so many of the best works of each method are added to what it is asked, and it is asked again.
    """

    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    region: Sequence[float] | None = None
    words: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    methods: tuple[str, ...] = (METHOD,)
    k: int = 5
    offset: int = 0
    filters: Filters = Filters()
    expand: int = 0

    @property
    def asked_methods(self) -> tuple[str, ...]:
        """Those that are asked: a question by colours asks the method of this name, whatever else is said."""
        return (COLOURS,) if self.colours else self.methods


def answer(store: Store, question: Question, indexes: Mapping[str, Index] = NONE) -> dict[str, Any]:
    """Works that a question asks for.

    Args:
        store: where to look.
        question: what for.
        indexes: per method its vectors, where the caller keeps them open; all records are compared elsewhere, which for
            a single question is faster than opening Milvus Lite, for that reads all vectors, too.

    Returns:
        {query, method, works, note}, as ``artray similar --json`` prints it. Of several methods, ``score`` is their
        fused one, in (0, 1], and ``method`` their names with + between.

    Raises:
        ConfigError: no such image, no picture, an unknown name, or nothing that is asked for.
    """
    if bool(question.like or question.words) == bool(question.colours):
        raise ConfigError("query: expected pictures or --words, or else --colour")
    records = Records.open(store)
    known = find.pictured(records, [*question.like, *question.unlike])
    asked = [_asked(store, question, method, known) for method in question.asked_methods]
    several = len(asked) > 1
    k, offset = (_depth(question), 0) if several else (question.k, question.offset)
    with views.opened(records) as connection:
        answers = [
            search(
                records,
                connection,
                like[0],
                k,
                question.filters,
                also=like[1:],
                unlike=unlike,
                index=indexes.get(method),
                method=method,
                excluded=set(known),
                offset=offset,
                expand=question.expand,
            )
            for method, like, unlike in asked
        ]
    found = _fused(answers, question) if several else answers[0]
    names = (*question.like, *question.words, *question.colours)
    return found._asdict() | {"query": names[0] if len(names) == 1 else list(names)}


class _Asked(NamedTuple):
    """A question as one method takes it."""

    method: str
    like: list[Query]
    unlike: list[Query]


def _asked(store: Store, question: Question, method: str, known: Mapping[str, dict[str, Any]]) -> _Asked:
    holder = source(store, method)
    like = [_query(holder, name, known, question.region if at == 0 else None) for at, name in enumerate(question.like)]
    if question.words:
        like += _words(holder, question.words)
    if question.colours:
        like = [_palette(holder, question.colours)]
    return _Asked(method, like, [_query(holder, name, known, None) for name in question.unlike])


def _depth(question: Question) -> int:
    """How many works of each method are looked at where several are fused."""
    return min(MAX_K, max(FUSED_DEPTH, 4 * (question.k + question.offset)))


def _fused(answers: Sequence[Similar], question: Question) -> Similar:
    """One answer of several methods', by reciprocal ranks."""
    rows = {work["image_id"]: work for each in answers for work in each.works}
    names, ranks = ranking.ranks_of_lists([[work["image_id"] for work in each.works] for each in answers])
    most = len(answers) / (ranking.RANK_OFFSET + 1)  # of a work that is the first of all
    scores = ranking.reciprocal_rank(ranks) / most
    chosen = ranking.order(scores, names)[question.offset : question.offset + question.k]
    works = [
        rows[names[at]] | {"rank": rank, "score": round(float(scores[at]), 6)}
        for rank, at in enumerate(chosen.tolist(), question.offset + 1)
    ]
    notes = dict.fromkeys(each.note for each in answers if each.note)
    return Similar("image", "+".join(each.method for each in answers), works, "; ".join(notes))


def _query(holder: Store, name: str, known: Mapping[str, dict[str, Any]], region: Sequence[float] | None) -> Query:
    """What is asked by an image of the store, which has an embedding, by a part of it, or by any other picture."""
    if name in known and region is None:
        return name
    side_px = None if region is None else REGION_SIDE_PX
    read = pictures.Pictures(holder)
    picture = read.of_record(known[name], side_px) if name in known else read.of_file(name, side_px)
    return pictures.embedding(holder, picture.pixels if region is None else picture.crop(region))


def _words(holder: Store, words: Sequence[str]) -> list[Query]:
    """What is asked by words.

    Raises:
        ConfigError: the method knows none.
    """
    card = pictures.card_of(holder)
    method = embedder.build(card)
    if not isinstance(method, embedder.TextEmbedder):
        raise ConfigError(
            f"--words: expected a --method that knows words, such as clip-vit-b-32, got {card.name}; docs/methods.md"
        )
    return list(method.embed_text(words))


def _palette(holder: Store, asked: Sequence[str]) -> Query:
    """What is asked by colours, "#rrggbb" or "#rrggbb:SHARE" each."""
    pairs = [text.partition(":") for text in asked]
    try:
        shares = [float(share or 1) for _, _, share in pairs]
    except ValueError as error:
        raise ConfigError(f"--colour {' '.join(asked)}: expected #rrggbb, or #rrggbb:SHARE with a number") from error
    method = colours.from_card(pictures.card_of(holder), "cpu")
    return method.of_hex([colour for colour, _, _ in pairs], shares)
