"""CLIP, SigLIP and their like by the library open_clip: a tower for pictures, and one for words where these are.

The architecture ``open_clip/NAME`` is the library's model NAME. Its weights are a file of the card's, as its publishers
have it; the library's own downloads, which nobody verifies, are not used. A model whose words are cut up by a tokenizer
that would have to be downloaded embeds pictures alone.

Source: Radford et al. (2021), https://arxiv.org/abs/2103.00020; https://github.com/mlfoundations/open_clip.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from artray.classify.inputs import to_input
from artray.detect import torchvision_engine
from artray.errors import ConfigError
from artray.models import registry, weights
from artray.models.cards import Card, Input
from artray.retrieve.embedder import Floats, Image

BATCH: Final = 16
"""Images or texts that go through the network together on an accelerator."""

UNUSED: Final = ("logit_scale", "logit_bias")
"""Of the loss that it was trained with."""

DOWNLOADED: Final = ("hf_tokenizer_name", "tokenizer_type", "hf_model_name")
"""What a text tower's description has where its parts would be downloaded."""


class Pictures:
    """A model's tower for pictures.

    On a CPU one image at a time goes through it, so that none depends on another, bit for bit.

    Args:
        model: one of open_clip's, on the CPU; is taken over.
        spec: how an image becomes its input.
        dim: length of its embeddings.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: the input is of another size than the model takes, or embeddings of another length.
    """

    def __init__(self, model: nn.Module, spec: Input, dim: int, device: str = "cpu") -> None:
        self._model: Any = model.to(device).eval()
        self._device, self._spec, self.dim = torch.device(device), spec, dim
        self._together = 1 if self._device.type == "cpu" else BATCH
        self._try_out()

    def __call__(self, images: Sequence[Image]) -> Floats:
        """float32[N, D] of unit norm, for N images uint8[H, W, 3] RGB of any sizes; N may be 0.

        Raises:
            ValueError: an image is not uint8[H, W, 3], or its embedding is not finite.
        """
        return self._embedded(images, self._shown, self._model.encode_image)

    def _shown(self, images: Sequence[Image]) -> Tensor:
        squares = np.stack([to_input(image, self._spec) for image in images])
        return torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()

    def _embedded(
        self, asked: Sequence[Any], given: Callable[[Any], Tensor], encode: Callable[[Tensor], Tensor]
    ) -> Floats:
        """Images or texts, some at a time."""
        found = np.empty((len(asked), self.dim), np.float32)
        for start in range(0, len(asked), self._together):
            some = asked[start : start + self._together]
            with torch.inference_mode():
                found[start : start + len(some)] = unit(encode(given(some).to(self._device)).float().cpu().numpy())
        return found

    def _try_out(self) -> None:
        """Look at an empty picture: what does not fit is found before the first is read."""
        size = self._spec.size_px
        try:
            with torch.inference_mode():
                shape = tuple(self._model.encode_image(torch.zeros(1, 3, size, size, device=self._device)).shape)
        except (RuntimeError, AssertionError, ValueError) as error:
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigError(f"input.size_px: expected what the model takes, got {size}: {line}") from error
        if shape != (1, self.dim):
            raise ConfigError(f"embedding_dim: expected {shape[-1]}, got {self.dim}")


class PicturesAndWords(Pictures):
    """Both towers of a model.

    Args:
        tokens: texts to int64[N, L], as the model takes them.
        model: see :class:`Pictures`.
        spec: likewise.
        dim: likewise.
        device: likewise.
    """

    def __init__(
        self, tokens: Callable[[Sequence[str]], Tensor], model: nn.Module, spec: Input, dim: int, device: str = "cpu"
    ) -> None:
        super().__init__(model, spec, dim, device)
        self._tokens = tokens

    def embed_text(self, texts: Sequence[str]) -> Floats:
        """float32[N, D] of unit norm: where pictures of what the texts say would be; N may be 0.

        CLIP understands English captions best ("an oil painting of a ship at sea"); what is longer than its context
        (77 tokens, of most words one) is cut off.
        """
        return self._embedded(texts, self._tokens, self._model.encode_text)


def unit(rows: Floats) -> Floats:
    """Rows scaled to unit norm.

    Raises:
        ValueError: one is not finite, or has no direction.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("embedding: expected values that are finite and not all zero")
    scaled: NDArray[np.float32] = (rows / norms).astype(np.float32)
    return scaled


@registry.register("open_clip", task="retrieve")
def from_card(card: Card, device: str) -> Pictures:
    """The model that a card describes; its one file has the role ``model``.

    Returns:
        One that embeds texts, too, if its tokenizer is here.

    Raises:
        ConfigError: open_clip is not installed, has no such model or refuses it, or weights, input and length do not
            fit.
        TransientError: its weights cannot be reached.
    """
    owner = f"card {card.name}"
    if set(card.weights) != {"model"} or card.input is None or card.embedding_dim is None or card.settings:
        raise ConfigError(f"{owner}: expected an input, weights with the role model and no other, and no settings")
    if card.metric != "cosine":
        raise ConfigError(f"{owner}: metric: expected cosine, got {card.metric}")
    try:
        library, name = imported(), card.architecture.partition("/")[2]
        text = description(library, name)["text_cfg"]
        tensors = weights.read_tensors(weights.fetch(card.weights["model"], owner))
        model = loaded(library, name, tensors)
        if any(key in text for key in DOWNLOADED):
            return Pictures(model, card.input, card.embedding_dim, device)
        return PicturesAndWords(library.get_tokenizer(name), model, card.input, card.embedding_dim, device)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(owner) else f"{owner}: {message}") from error


def imported() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ConfigError(
            "open_clip: expected the package, got none; install it: pip install 'artray[clip]'"
        ) from error
    return open_clip


def description(library: Any, name: str) -> dict[str, Any]:
    """What the library says of a model of pictures and texts.

    Raises:
        ConfigError: it has none of that name, or one that needs parts from elsewhere.
    """
    found: dict[str, Any] = library.get_model_config(name) if name in library.list_models() else {}
    if not {"vision_cfg", "text_cfg", "embed_dim"} <= set(found):
        near = ", ".join(difflib.get_close_matches(name, library.list_models(), n=4, cutoff=0.4))
        raise ConfigError(
            f"architecture: expected open_clip/NAME with a name of open_clip's, got {name!r}; near: {near}"
        )
    if "hf_model_name" in found["text_cfg"]:
        raise ConfigError(
            f"architecture: {name}: expected a model of open_clip's own, got one with a text tower elsewhere"
        )
    return found


def loaded(library: Any, name: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """One of the library's models with the given weights, on the CPU.

    Raises:
        ConfigError: weights that do not fit; names the first that differs.
    """
    config = library.get_model_config(name)
    kind = library.CustomTextCLIP if config.pop("custom_text", False) else library.CLIP
    try:  # not by create_model, which warns that there are no weights
        model: nn.Module = kind(**config)
    except TypeError as error:
        raise ConfigError(f"architecture: {name}: expected a model of two towers, got {error}") from error
    kept = {key: tensor.float() for key, tensor in tensors.items() if key not in UNUSED}
    own = {key: tensor for key, tensor in model.state_dict().items() if key in UNUSED}
    torchvision_engine.load(model, kept | own)
    return model
