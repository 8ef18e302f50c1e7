"""Add an embedding method to a finished store: a run of its own, into a store of its own below it.

What is promised of a run holds for this one: each image is read once, an interrupted run is gone on with, and a new or
changed image is all that the next one does.
"""

from collections.abc import Sequence

from artray import config
from artray.config import ClassifyConfig, DetectConfig, Profile, RetrieveConfig
from artray.errors import ConfigError
from artray.location import Location
from artray.models import cards
from artray.pipeline import run
from artray.pipeline.progress import Reporter
from artray.pipeline.rehead import made_by
from artray.pipeline.report import Summary
from artray.store.layout import Store


def embed(
    archive: str, store: Store, method: str, overrides: Sequence[str], reporter: Reporter, options: run.Options
) -> Summary:
    """Embed the images of an archive by a method, as ``artray similar STORE --method NAME`` compares them then.

    Args:
        archive: the store's.
        store: what was processed before.
        method: a card's name, or its file.
        overrides: ``section.key=value`` of the profile, which is that of the store's latest run else.
        reporter: is told how it goes.
        options: what this run alone does.

    Raises:
        ConfigError: the card makes no embeddings or those that the store has, or the archive is another one; and what
            artray.pipeline.run.process raises.
    """
    card = cards.load(method)
    cards.check_embedder(card)
    run.check_archive(Location.of(archive), store, moved=options.moved)
    own, latest, _ = made_by(store)
    if card.trunk_key() == own.trunk_key():
        raise ConfigError(
            f"--method {card.name}: expected another method than the store's own, whose embeddings {own.name} makes; "
            f"artray similar {store.uri} asks them"
        )
    profile = profile_of(latest, method, overrides)
    target = store.method(card.name)
    return run.process(archive, target.uri, profile, reporter, options, method=card.name)


def profile_of(latest: Profile, method: str, overrides: Sequence[str]) -> Profile:
    """The profile of a run that embeds alone: archive, decoding, layout and storage as of the run before it."""
    alone = latest.model_copy(
        update={
            "classify": ClassifyConfig(cards=()),
            "detect": DetectConfig(cards=()),
            "retrieve": RetrieveConfig(card=method, device=latest.classify.device),
        }
    )
    values = alone.model_dump(mode="json")
    for override in overrides:
        config.override_value(values, override)
    return config.parse(Profile, values, where="embed")
