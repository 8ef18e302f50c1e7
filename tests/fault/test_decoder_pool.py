"""The pool under decoders that really segfault, hang, exhaust memory and die."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artray.archive.formats import Decoded
from artray.archive.pool import LOOK_AHEAD, DecodePool
from artray.config import DecodeConfig
from artray.errors import ConfigError, InvariantError, RowError, TransientError

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


def config(**values):
    return DecodeConfig(**{"plugins": ("faulty_decoders",), "timeout_s": 20, "memory_bytes": 2**28, **values})


@pytest.fixture(scope="module")
def shared():
    sys.path.insert(0, HERE)
    try:
        with DecodePool(config()) as pool:
            yield pool
    finally:
        sys.path.remove(HERE)


def picture(shade):
    buffer = io.BytesIO()
    Image.new("L", (20, 10), shade).save(buffer, "PNG")
    return buffer.getvalue()


def shade(result):
    return int(result.pixels[0, 0, 0]) if isinstance(result, Decoded) else result.kind


def shades(pool, datas):
    return [shade(result) for result in pool.decode_many(datas)]


def pids(pool):
    return [lane.child.process.pid for lane in pool._lanes]


def test_order_errors_and_memory(shared):
    missing = RowError("missing", "gone")
    results = list(shared.decode_many([picture(1), missing, b"", picture(3)]))
    assert [shade(result) for result in results] == [1, "missing", "empty", 3]
    assert results[1] is missing
    assert results[0].pixels.flags.owndata
    assert (results[0].width_px, results[0].height_px) == (20, 10)
    assert list(shared.decode_many([])) == []


@pytest.mark.parametrize(
    ("magic", "kind", "detail"),
    [
        (b"SEGV", "decoder_crashed", "the decoder was killed by SIGSEGV"),
        (b"KILL", "decoder_crashed", "the decoder was killed by SIGKILL"),
        (b"EXIT", "decoder_crashed", "the decoder exited with status 3"),
        (b"HOARD", "too_large", "decoding it needs more memory than allowed"),
        (b"REFUSE", "unsupported", "a variant that nobody reads"),
    ],
)
def test_a_fault_costs_one_image(shared, magic, kind, detail):
    results = list(shared.decode_many([picture(1), magic, picture(2), picture(3)]))
    assert [shade(result) for result in results] == [1, kind, 2, 3]
    assert results[1].detail == detail


@pytest.mark.parametrize("magic", [b"LOOP", b"WAIT"])
def test_a_hang_is_killed_and_costs_one_image(magic):
    with DecodePool(config(timeout_s=0.8)) as pool:
        start = time.monotonic()
        results = list(pool.decode_many([picture(1), magic, picture(2)]))
        assert [shade(result) for result in results] == [1, "decoder_hung", 2]
        assert results[1].detail == "no answer within 0.8 s"
        assert 0.8 < time.monotonic() - start < 8


def test_first_and_consecutive_crashes(shared):
    assert shades(shared, [b"SEGV", b"SEGV", picture(9), b"EXIT"]) == ["decoder_crashed"] * 2 + [9, "decoder_crashed"]


def test_a_neighbour_of_a_decoder_that_damaged_its_process_is_unharmed(shared):
    assert shades(shared, [b"POISON", picture(1), picture(2)]) == [6, 1, 2]


def test_memory_taken_by_others_is_not_held_against_an_image(shared):
    assert shades(shared, [b"FILL", b"NEED", picture(2)]) == [8, 0, 2]


def test_printing_does_no_harm(shared):
    assert shades(shared, [b"TALK", picture(1), b"TALK"]) == [7, 1, 7]


def test_a_child_killed_from_outside_costs_nothing(shared):
    results = shared.decode_many([picture(1), picture(2), picture(3), picture(4)])
    assert shade(next(results)) == 1
    os.kill(pids(shared)[0], signal.SIGKILL)
    assert [shade(result) for result in results] == [2, 3, 4]
    os.kill(pids(shared)[0], signal.SIGKILL)
    assert shades(shared, [picture(5)]) == [5]


def test_the_source_is_read_lazily(shared):
    taken = []
    source = (taken.append(n) or picture(n) for n in range(100))
    results = shared.decode_many(source)
    assert taken == []
    assert shade(next(results)) == 0
    assert len(taken) <= LOOK_AHEAD
    assert [shade(result) for result in results] == list(range(1, 100))


def test_an_abandoned_iteration_leaves_the_pool_usable(shared):
    results = shared.decode_many([picture(1), picture(2), b"SLEEP0.2", b"SLEEP0.2"])
    assert shade(next(results)) == 1
    with pytest.raises(InvariantError, match="one iteration at a time"):
        next(shared.decode_many([picture(1)]))
    results.close()
    assert shades(shared, [picture(7), picture(8)]) == [7, 8]


def test_a_source_that_raises(shared):
    def source():
        yield picture(1)
        raise OSError("storage is gone")

    with pytest.raises(OSError, match="storage is gone"):
        list(shared.decode_many(source()))
    assert shades(shared, [picture(7)]) == [7]


def test_a_consumer_slower_than_the_timeout_is_not_a_hang():
    with DecodePool(config(timeout_s=0.8)) as pool:
        results = pool.decode_many([picture(n) for n in range(6)])
        assert shade(next(results)) == 0
        time.sleep(1.2)
        assert [shade(result) for result in results] == [1, 2, 3, 4, 5]


def test_several_processes_keep_busy_and_in_order():
    """Eight sleeps of 0.4 s take 3.2 s one after another; two processes need half of that."""
    with DecodePool(config(processes=2)) as pool:
        assert len(set(pids(pool))) == 2
        start = time.monotonic()
        assert shades(pool, [b"SLEEP0.4"] * 4 + [picture(3)] + [b"SLEEP0.4"] * 4) == [5] * 4 + [3] + [5] * 4
        assert time.monotonic() - start < 2.8
        assert shades(pool, [b"SEGV", picture(1), b"SLEEP0.1", picture(2)]) == ["decoder_crashed", 1, 5, 2]


def test_any_thread_may_use_it_and_the_children_outlive_that_thread(shared):
    found = []
    thread = threading.Thread(target=lambda: found.extend(shades(shared, [b"EXIT", picture(4)])))
    thread.start()
    thread.join()
    before = pids(shared)
    assert found == ["decoder_crashed", 4]
    assert shades(shared, [picture(5)]) == [5]
    assert pids(shared) == before


def test_files_larger_than_the_pixels(shared):
    """70 MB: more than a slot keeps; it is given back, and the next ones are as they should be."""
    large = picture(1)[:-12] + bytes(4) + os.urandom(70_000_000)
    assert shades(shared, [large, picture(2), large, picture(3)])[1::2] == [2, 3]
    sizes = [os.fstat(slot).st_size for slot in shared._lanes[0].child._slots]
    assert max(sizes) < 2**20


def test_children_have_one_thread_and_limits():
    with DecodePool(config()) as pool:
        shades(pool, [picture(1)])
        process = Path(f"/proc/{pids(pool)[0]}")
        limits = (process / "limits").read_text()
        assert len(list((process / "task").iterdir())) == 1
    address_space = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert 2**28 < int(address_space.split()[3]) < 2**28 + 2**31
    assert not process.exists()


@pytest.mark.parametrize("last", [b"", b"WAIT"])
def test_children_die_with_a_killed_parent(last):
    code = (
        "import sys, time; from artray.archive.pool import DecodePool; from artray.config import DecodeConfig\n"
        "pool = DecodePool(DecodeConfig(plugins=('faulty_decoders',)))\n"
        "print(pool._lanes[0].child.process.pid, flush=True)\n"
        f"list(pool.decode_many([{last!r}])); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True)
    child = int(parent.stdout.readline())
    time.sleep(0.2)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_plugin_that_cannot_be_imported_is_told_at_once():
    with pytest.raises(ConfigError, match=r"decode\.plugins: no_such_plugin cannot be imported"):
        DecodePool(DecodeConfig(plugins=("no_such_plugin",)))


def test_a_process_that_cannot_start_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TransientError, match="exited with status 1 before it was ready, 3 times"):
        DecodePool(DecodeConfig())


def test_starting_takes_well_under_the_time_of_a_job(shared):
    """Measured at 0.4 s on one idle core; the bound is for a busy machine."""
    start = time.monotonic()
    with DecodePool(DecodeConfig()) as pool:
        assert time.monotonic() - start < 10
        pixels = next(iter(pool.decode_many([picture(3)]))).pixels
    assert np.all(pixels == 3)
