"""artray: an archive of digitised artworks in, a searchable store out.

>>> import artray
>>> sorted(name for name in dir(artray) if not name.startswith("_"))[:4]
['demo', 'duplicates', 'export', 'find']
"""

from typing import Any

__version__ = "0.1.0"

_VERBS = (
    "demo",
    "duplicates",
    "export",
    "find",
    "index",
    "plan",
    "process",
    "sample",
    "show",
    "similar",
    "sql",
    "status",
    "verify",
)


def __getattr__(name: str) -> Any:
    """A verb, imported when it is first used: ``import artray`` itself costs nothing."""
    if name in _VERBS:
        from artray import api

        return getattr(api, name)
    raise AttributeError(f"module 'artray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_VERBS, "__version__"])
