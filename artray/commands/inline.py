"""Pictures in a terminal that can show them: Kitty's protocol and iTerm's, as text to be written to it."""

import base64
from collections.abc import Mapping
from typing import Final

CHUNK: Final = 4_096
"""Characters that Kitty takes at once."""

KITTY: Final = ("xterm-kitty", "xterm-ghostty")
ITERM: Final = ("iTerm.app", "WezTerm", "mintty")


def protocol(environment: Mapping[str, str]) -> str:
    """What the terminal of an environment knows: kitty, iterm, or "" for neither.

    >>> protocol({"TERM": "xterm-kitty"}), protocol({"TERM": "xterm", "TERM_PROGRAM": "iTerm.app"}), protocol({})
    ('kitty', 'iterm', '')
    """
    if environment.get("TMUX"):  # which passes neither on
        return ""
    if environment.get("TERM") in KITTY or environment.get("KITTY_WINDOW_ID"):
        return "kitty"
    return "iterm" if environment.get("TERM_PROGRAM") in ITERM else ""


def inline(png: bytes, kind: str) -> str:
    """A PNG as what makes a terminal show it; "" of no kind.

    Source: Kitty's terminal graphics protocol (a=T: send and show, f=100: PNG, q=2: no answer); iTerm2's inline images.
    """
    text = base64.b64encode(png).decode("ascii")
    if kind == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(png)}:{text}\a\n"
    if kind != "kitty":
        return ""
    chunks = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)] or [""]
    first = ["a=T,f=100,q=2,"] + [""] * (len(chunks) - 1)
    last = [1] * (len(chunks) - 1) + [0]
    parts = zip(first, last, chunks, strict=True)
    return "".join(f"\x1b_G{keys}m={more};{chunk}\x1b\\" for keys, more, chunk in parts) + "\n"
