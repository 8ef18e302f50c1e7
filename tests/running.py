"""Running the command line as a user does: in a process of its own, with a Ray of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from artray.store.layout import open_store
from artray.store.records import Records

QUICK = ("--set", "detect.cards=[]", "--set", "store.index=false")
"""Classifier only, and no vectors: what the records promise needs no more."""

MADE_ANEW = ("run_id", "processed_at")
"""Columns that no two runs share."""


def command(*arguments: str | Path) -> list[str]:
    """What to start."""
    return [sys.executable, "-m", "artray", *map(str, arguments)]


def environment(temp: Path, **more: str) -> dict[str, str]:
    """This process's, with a temporary folder for Ray alone."""
    return dict(os.environ) | {"ARTRAY_RAY_TEMP": str(temp), "RAY_AUTH_MODE": "disabled"} | more


def run(*arguments: str | Path, env: dict[str, str], ok: bool = True) -> subprocess.CompletedProcess[str]:
    """The finished command; fails the test where it fails."""
    done = subprocess.run(command(*arguments), check=False, env=env, capture_output=True, text=True, timeout=540)
    assert not ok or done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def answer(*arguments: str | Path, env: dict[str, str], ok: bool = True) -> Any:
    """What the command prints with --json."""
    return json.loads(run(*arguments, "--json", env=env, ok=ok).stdout)


def records(store: str | Path) -> dict[str, dict[str, Any]]:
    """All rows by image_id, without what no two runs share; fails where an image has two."""
    rows = Records.open(open_store(str(store))).delta().to_pyarrow_table().to_pylist()
    by_id = {row["image_id"]: {k: v for k, v in row.items() if k not in MADE_ANEW} for row in rows}
    assert len(by_id) == len(rows), "an image has two rows"
    return by_id
