"""Profiles: YAML into frozen models, one section per stage, every field with a default and a meaning.

A stage is given its own section and nothing else. ``load`` reports the first thing that is wrong with a profile in
one line that names the key, before anything starts.
"""

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from artray.errors import ConfigError
from artray.taxonomy import CATEGORY

MIB = 2**20
YAML_DEPTH: Final = 20
"""No profile or card is nested deeper; a text that is would keep the parser busy for hours."""

SHOWN_CHARACTERS: Final = 80
"""So much of a wrong value is shown."""

M = TypeVar("M", bound=BaseModel)


def _device(name: str) -> str:
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", name):
        raise ValueError(f"expected cpu, cuda or cuda:N, got {name!r}")
    return name


Device: TypeAlias = Annotated[str, AfterValidator(_device)]
"""Where models run; stated, for the workers' machines have what this one need not have."""


class Section(BaseModel):
    """A part of a profile: immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def reported(cls, values: Mapping[str, Any]) -> Self:
        """As a run's report has it, perhaps of another version of artray: keys that are not known are left out."""
        return cls.model_validate({key: value for key, value in values.items() if key in cls.model_fields})


class ArchiveConfig(Section):
    """Which files of the archive are images of it."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_file_bytes: int = Field(512 * MIB, gt=0)
    metadata: str | None = None


class DecodeConfig(Section):
    """How bytes become pixels: RGB, upright, at most ``max_side_px`` on the longer side."""

    max_side_px: int = Field(640, ge=32)
    max_pixels: int = Field(1_000_000_000, gt=0)
    memory_bytes: int = Field(6 * 1024 * MIB, ge=256 * MIB)
    timeout_s: float = Field(30.0, gt=0)
    processes: int = Field(1, ge=1)
    readers: int = Field(4, ge=1)
    plugins: tuple[str, ...] = ()
    batch_images: int = Field(16, ge=1)
    batch_bytes: int = Field(64 * MIB, gt=0)


Views: TypeAlias = Literal["one", "flips", "five_crop", "ten_crop"]
"""How a picture is looked at: as a whole; so and mirrored; in five crops; in these and their mirror images."""


class ClassifyConfig(Section):
    """Type, genre and embedding: each card says which of them it yields, and no two yield the same.

    Further ``views`` change no label: a record says which part of them would.
    """

    cards: tuple[str, ...] = ("efficientnet-lite2-art",)
    views: Views = "one"
    device: Device = "cpu"
    batch_size: int = Field(16, ge=1)


class FuseConfig(Section):
    """How several detectors' boxes become one answer. Section 4 of the report's chapter Object Detection.

    Cards that find faces alone take no part; their boxes are appended.

    Args:
        method: ``append`` keeps all boxes; ``wbf`` (weighted boxes fusion), ``consensus`` (the same, of boxes that
            several members found), ``nmw``, ``nms``, ``soft_nms_linear``, ``soft_nms_gaussian``: see
            artray.detect.fusion; ``each_then_all`` suppresses in every member by class, then in all (section 4.2).
        by: what must be equal to be fused. Section 4.1: the category; a box takes the class of its surest member.
        iou_match: boxes that overlap by more than this show the same. Section 4.1: 0.4.
        scoring: of ``wbf`` and ``consensus``, how a score comes from its boxes'.
        found_by_min: of ``consensus``, how many members must have found a box.
        sigma: of ``soft_nms_gaussian``.
        weights: card to its weight; 1 where nothing is said. Section 4.1 gives none.
        score_min: card to the lowest score that takes part; 0 where nothing is said. Table 4 has one per member.
        class_score_min: class to the lowest score that is kept at the end; 0 where nothing is said.
        nested: of boxes of these classes within a larger one of their class only the largest stays. Section 4.1:
            flower, fruit, produce (others) and ship.
        nested_share_min: the part of a box that must lie within the larger one.
        oversized: boxes of these classes that cover nearly all of the image go. Section 4.1: building.
        oversized_share_max: the part of the image that they may cover. Section 4.1: 0.85.
        specific_iou: a box of "CATEGORY (others)" goes that overlaps one of a named class of that category by more than
            this; null for never. Section 4.3: 0.7.
    """

    method: Literal[
        "append", "wbf", "consensus", "nmw", "nms", "soft_nms_linear", "soft_nms_gaussian", "each_then_all"
    ] = "append"
    by: Literal["category", "class"] = "category"
    iou_match: float = Field(0.4, ge=0, le=1)
    scoring: Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"] = "avg"
    found_by_min: int = Field(2, ge=1)
    sigma: float = Field(0.5, gt=0)
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    score_min: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    class_score_min: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    nested: tuple[str, ...] = ()
    nested_share_min: float = Field(1.0, gt=0, le=1)
    oversized: tuple[str, ...] = ()
    oversized_share_max: float = Field(0.85, ge=0, le=1)
    specific_iou: float | None = Field(None, ge=0, le=1)

    @field_validator("class_score_min", "nested", "oversized")
    @classmethod
    def _known_classes(cls, classes: Any) -> Any:
        if unknown := [name for name in classes if name not in CATEGORY]:
            near = difflib.get_close_matches(unknown[0], CATEGORY, n=1)
            raise ValueError(f"expected classes of the taxonomy, got {unknown[0]!r}; near: {', '.join(near) or 'none'}")
        return classes


class ViewsConfig(Section):
    """What detectors look at besides the image as it was decoded; each view costs as much. Not in the report.

    Args:
        mirrored: also every view's mirror image.
        scales: the image in these sizes, 1 for as it is.
        tile_px: also squares of this side, where an image is larger: for small objects in large works, decoded large
            (``decode.max_side_px``); null for none.
        tile_overlap: the part of a tile that neighbours share, at least.
        iou_max: of two boxes of a class that overlap by more, the surer stays.
    """

    mirrored: bool = False
    scales: tuple[Annotated[float, Field(gt=0, le=8)], ...] = Field((1.0,), min_length=1)
    tile_px: int | None = Field(None, ge=64)
    tile_overlap: float = Field(0.25, ge=0, le=0.75)
    iou_max: float = Field(0.5, ge=0, le=1)


class DetectConfig(Section):
    """Objects and faces: each card is a detector, an ensemble of which ``fuse`` makes one answer.

    Args:
        absent: what becomes of a card whose weights are still to be trained, or not there: an ``error``, or ``skip``
            (with a note), so that an ensemble runs with those members that there are.
    """

    cards: tuple[str, ...] = ("yolox-nano-art", "mtcnn")
    device: Device = "cpu"
    batch_size: int = Field(16, ge=1)
    absent: Literal["error", "skip"] = "error"
    views: ViewsConfig = ViewsConfig()
    fuse: FuseConfig = FuseConfig()


class RetrieveConfig(Section):
    """An embedding by a method of its own, in the place of the classifier's; see ``artray embed``.

    Args:
        card: of the method: of task retrieve, or a classifier that yields an embedding; null for none.
    """

    card: str | None = None
    device: Device = "cpu"
    batch_size: int = Field(16, ge=1)


class PipelineConfig(Section):
    """How the stages are laid out on the cluster."""

    layout: Literal["fused", "split"] = "fused"
    min_actors: int = Field(1, ge=1)
    max_actors: int | None = Field(None, ge=1)
    cpus_per_actor: float = Field(1.0, gt=0)
    gpus_per_actor: float = Field(0.0, ge=0)
    threads_per_actor: int = Field(1, ge=1)
    decode_actors: int | None = Field(None, ge=1)
    part_rows: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "PipelineConfig":
        if self.max_actors is not None and self.max_actors < self.min_actors:
            raise ValueError(f"max_actors: expected at least min_actors ({self.min_actors}), got {self.max_actors}")
        return self


class StoreConfig(Section):
    """When rows become durable, and where their vectors go.

    Args:
        engine: of the vectors: ``milvus`` (Lite, or the server of ``milvus_uri``), ``hnsw`` (a graph in a file), or
            ``auto``: Milvus Lite as long as the store is small enough for it.
    """

    commit_s: float = Field(3.0, gt=0)
    commit_rows: int = Field(2_000, ge=1)
    keep_hours: int = Field(168, ge=1, le=87_600)
    index: bool = True
    engine: Literal["auto", "milvus", "hnsw"] = "auto"
    milvus_uri: str | None = None


class Profile(Section):
    """Everything a run is made with."""

    name: str
    archive: ArchiveConfig = ArchiveConfig()
    decode: DecodeConfig = DecodeConfig()
    classify: ClassifyConfig = ClassifyConfig()
    detect: DetectConfig = DetectConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    pipeline: PipelineConfig = PipelineConfig()
    store: StoreConfig = StoreConfig()

    def with_metadata(self, path: str) -> "Profile":
        """The same with another metadata file."""
        return self.model_copy(update={"archive": self.archive.model_copy(update={"metadata": path})})

    def digest(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the resolved profile."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def shipped() -> dict[str, Path]:
    """The profiles that come with artray, by name."""
    folder = Path(str(resources.files("artray") / "profiles"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(profile: str | Path, overrides: Sequence[str] = ()) -> Profile:
    """A shipped profile by name, or a YAML file by path, with ``section.key=value`` overrides applied.

    Raises:
        ConfigError: no such profile, not YAML, an unknown key, or a value out of range.
    """
    return load_as(Profile, profile, overrides, shipped())


def load_as(model: type[M], profile: str | Path, overrides: Sequence[str], known: Mapping[str, Path]) -> M:
    """:func:`load` for profiles of another kind, of which ``known`` can be named.

    Raises:
        ConfigError: likewise.
    """
    path = known.get(str(profile)) or Path(profile)
    values = read_yaml(path, what="profile", known=known)
    for override in overrides:
        override_value(values, override)
    return parse(model, values, where=str(profile))


def read_yaml(path: Path, what: str, known: Iterable[str] = ()) -> dict[str, Any]:
    """A YAML mapping from a file; see :func:`plain_yaml` for what it may not hold. ``known`` names could be given, too.

    Raises:
        ConfigError: it cannot be read, is larger than 1 MiB, or is not a plain YAML mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MIB + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a null byte
        names = ", ".join(known)
        hint = f"; give a YAML file or one of: {names}" if names else ""
        raise ConfigError(f"{what} {path}: cannot be read ({_reason(error)}){hint}") from error
    if len(text) > MIB:
        raise ConfigError(f"{what} {path}: expected at most 1 MiB of YAML, got more")
    values = plain_yaml(text, f"{what} {path}")
    if not isinstance(values, dict):
        raise ConfigError(f"{what} {path}: expected a mapping of keys to values, got {type(values).__name__}")
    return values


def plain_yaml(text: str, where: str) -> Any:
    """YAML without tags and aliases (a few lines of which can fill any memory), and with every key once.

    Raises:
        ConfigError: it is not; the message begins with ``where``.
    """
    try:
        _check_events(text)
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: looks like a date or a number, but is none
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())[:300]}") from error


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > YAML_DEPTH:
            raise ValueError(f"expected at most {YAML_DEPTH} levels, got more")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(  # noqa: TRY004 (a wrong value, not a wrong type)
                f"expected no alias, got *{event.anchor}; write the value out"
            )
        if tag := getattr(event, "tag", None):
            raise ValueError(f"expected no tag, got {tag}")


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(str(key.value) for key, _ in node.value)
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise ValueError(f"{twice}: expected once, got twice")
        return super().construct_mapping(node, deep)


def parse(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Validate values as ``model``; the first thing wrong becomes one line that names its key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_told(model, error)}") from error


def _told(model: type[BaseModel], error: ValidationError) -> str:
    """The first thing wrong: key, what was expected, what was there, and the known keys where one is unknown."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "profile"
    if first["type"] == "extra_forbidden":
        return f"{key}: {first['msg']}; known keys: {', '.join(_keys(model, first['loc']))}"
    if first["type"] in ("missing", "value_error"):
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    got = repr(first["input"])
    return f"{key}: {first['msg']}, got {got if len(got) <= SHOWN_CHARACTERS else got[:SHOWN_CHARACTERS] + '…'}"


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The names that are known where an unknown one was found."""
    current: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        fields = [each.model_fields[part].annotation for each in current if part in each.model_fields]
        if fields:
            current = [inner for annotation in fields for inner in _models(annotation)]
        else:  # a place in a list, a key of a mapping, or the name that says which of several models it is
            current = [each for each in current if part in _tags(each)] or current
    return list(dict.fromkeys(name for each in current for name in each.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type, however deep in lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for argument in get_args(annotation) for inner in _models(argument)]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """What its ``name`` may be, where that tells it from others."""
    field = model.model_fields.get("name")
    return get_args(field.annotation) if field else ()


def override_value(values: dict[str, Any], override: str) -> None:
    """Set ``section.key=value`` in a tree of mappings; the value is read as YAML."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: expected section.key=value, for example pipeline.max_actors=2")
    value = plain_yaml(text, f"--set {override}")
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    values[path[-1]] = value


def _reason(error: Exception) -> str:
    """What went wrong with a file, without its path."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not UTF-8 text, or no file name"
