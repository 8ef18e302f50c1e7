"""Only the graph and the launch of a training know Ray: everything else can be imported, and tested, without it."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "artray"
RAY = {"artray.pipeline.graph", "artray.train.launch"}
"""The graph of the pipeline, and what starts a training."""

HAVE_EFFECTS = {"artray.__main__"}


def modules() -> list[str]:
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")]
    return sorted(name.removesuffix(".__init__") for name in names)


def test_only_these_import_ray() -> None:
    names = [name for name in modules() if name not in RAY | HAVE_EFFECTS]
    assert "artray.pipeline.worker" in names
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    if 'ray' in sys.modules: sys.exit(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


def test_the_graph_imports_no_models() -> None:
    """The job, and every task that moves no pixel, would spend seconds on it."""
    script = (
        "import sys, artray.pipeline.graph; sys.exit(' '.join({'torch', 'cv2', 'timm'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_modules_are_short() -> None:
    long = {path.name: lines for path in PACKAGE.rglob("*.py") if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}
