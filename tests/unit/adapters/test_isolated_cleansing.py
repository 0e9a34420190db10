import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.isolated_cleansing import IsolatedCleansing, cleanse_isolated, parse_answer
from lakehouse.cleansing import CleansedImage, cleanse_image
from lakehouse.errors import ServerStartError
from lakehouse.quality import CleansingRecipe
from tests.corpus.decoders import misbehave, time_work
from tests.corpus.hostile import png_of_zeros
from tests.corpus.seeds import SEEDS, encode, make_image

RECIPE = CleansingRecipe()
HASTY = CleansingRecipe(max_seconds=0.3, max_memory_mb=64)
PNG = SEEDS["png"]()
JPEG = SEEDS["jpeg"]()


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedCleansing]:
    with IsolatedCleansing(RECIPE, 2) as made:
        yield made


@pytest.fixture(scope="module")
def misbehaving() -> Iterator[IsolatedCleansing]:
    with IsolatedCleansing(HASTY, 1, misbehave) as made:
        yield made


def list_children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def find_process(isolated: IsolatedCleansing) -> int:
    return int(isolated.cleanse(b"show_process").camera_model or 0)


def wait_for_end(process_id: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not psutil.pid_exists(process_id) or psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", ["png", "png_16_bit", "webp", "tiff_lzw", "gif", "bmp", "heic", "avif", "jpeg_cmyk"])
def test_a_worker_makes_of_an_image_what_would_be_made_here(isolated: IsolatedCleansing, name: str) -> None:
    data = SEEDS[name]()
    cleansed = isolated.cleanse(data)
    assert cleansed == cleanse_image(data, RECIPE)
    assert cleansed.failure is None


def test_a_failure_comes_back_with_what_was_found_out(isolated: IsolatedCleansing) -> None:
    data = PNG[: len(PNG) // 2]
    assert isolated.cleanse(data) == cleanse_image(data, RECIPE)
    assert isolated.cleanse(data).failure == "truncated"


def test_a_plain_jpeg_starts_no_worker() -> None:
    before = list_children()
    with IsolatedCleansing(RECIPE, 2) as isolated:
        assert isolated.cleanse(JPEG) == cleanse_image(JPEG, RECIPE)
        assert list_children() == before


def test_a_file_of_too_many_bytes_starts_no_worker() -> None:
    before = list_children()
    with IsolatedCleansing(CleansingRecipe(max_bytes=1_000), 2) as isolated:
        assert isolated.cleanse(PNG).failure == "too_large"
        assert list_children() == before


def test_one_thread_uses_one_worker_again_and_again() -> None:
    with IsolatedCleansing(HASTY, 3, misbehave) as isolated:
        assert len({find_process(isolated) for _ in range(5)}) == 1


def test_closing_ends_the_workers_and_the_next_image_starts_them_anew() -> None:
    isolated = IsolatedCleansing(HASTY, 1, misbehave)
    first = find_process(isolated)
    isolated.close()
    assert not psutil.pid_exists(first)
    second = find_process(isolated)
    isolated.close()
    assert second != first
    assert not psutil.pid_exists(second)


@pytest.mark.parametrize("kind", ["hang_in_c", "hang_in_python"])
def test_a_decoder_that_hangs_costs_one_verdict(misbehaving: IsolatedCleansing, kind: str) -> None:
    assert misbehaving.cleanse(kind.encode()).failure == "too_slow"
    assert misbehaving.cleanse(b"do_nothing").camera_make == "do_nothing"


def test_a_decoder_that_sleeps_is_given_up_by_the_clock(misbehaving: IsolatedCleansing) -> None:
    started = time.monotonic()
    assert misbehaving.cleanse(b"sleep 3600").failure == "too_slow"
    assert time.monotonic() - started < 60
    assert misbehaving.cleanse(b"do_nothing").camera_make == "do_nothing"


def test_waiting_is_no_processor_time(misbehaving: IsolatedCleansing) -> None:
    assert misbehaving.cleanse(b"sleep 0.5").camera_make == "sleep"


@pytest.mark.parametrize("kind", ["abort", "be_killed", "make_mistake"])
def test_a_decoder_that_ends_its_process_costs_one_verdict(misbehaving: IsolatedCleansing, kind: str) -> None:
    assert misbehaving.cleanse(kind.encode()).failure == "decoder_crash"
    assert misbehaving.cleanse(b"do_nothing").camera_make == "do_nothing"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit on memory")
def test_a_decoder_that_fills_memory_costs_one_verdict(misbehaving: IsolatedCleansing) -> None:
    assert misbehaving.cleanse(b"allocate 40000000").camera_make == "allocate"
    assert misbehaving.cleanse(b"allocate 100000000").failure == "too_large"
    assert misbehaving.cleanse(b"do_nothing").camera_make == "do_nothing"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit on memory")
def test_an_image_that_needs_too_much_memory_is_too_large() -> None:
    data = png_of_zeros(9_000, 9_000, bytes_per_pixel=4)
    with IsolatedCleansing(CleansingRecipe(max_memory_mb=128), 1) as isolated:
        assert isolated.cleanse(data).failure == "too_large"
        assert isolated.cleanse(PNG).failure is None


@pytest.mark.parametrize(
    "answer",
    [
        "00",
        "ffffffffffffffff",
        "00000002ffffffff",
        "0000000200000000" + b"{}".hex(),
        "0000000200000000" + b"[]".hex(),
        "0000000300000000" + b"nil".hex(),
        "0000c35000000000" + b"[".hex() * 50_000,
        "00000011000000007b2266616374732220c3a9c3a9c3a9c3a9",
    ],
)
def test_an_answer_that_makes_no_sense_counts_as_a_crash(misbehaving: IsolatedCleansing, answer: str) -> None:
    assert misbehaving.cleanse(f"send {answer}".encode()).failure == "decoder_crash"
    assert misbehaving.cleanse(b"do_nothing").camera_make == "do_nothing"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_others_stop_while_it_works_costs_nothing(
    misbehaving: IsolatedCleansing, number: signal.Signals
) -> None:
    process_id = find_process(misbehaving)
    with ThreadPoolExecutor(1) as pool:
        cleansed = pool.submit(misbehaving.cleanse, b"sleep 0.5")
        time.sleep(0.2)
        os.kill(process_id, number)
        assert cleansed.result().camera_make == "sleep"
    assert find_process(misbehaving) != process_id


def test_a_worker_that_others_kill_while_it_waits_costs_nothing(misbehaving: IsolatedCleansing) -> None:
    process_id = find_process(misbehaving)
    os.kill(process_id, signal.SIGKILL)
    assert wait_for_end(process_id)
    assert misbehaving.cleanse(b"do_nothing").camera_make == "do_nothing"


def test_threads_share_a_few_workers() -> None:
    names = ["png", "gif", "jpeg", "tiff", "webp", "bmp"] * 6
    before = list_children()
    with IsolatedCleansing(RECIPE, 2) as isolated, ThreadPoolExecutor(6) as pool:
        cleansed = list(pool.map(isolated.cleanse, [SEEDS[name]() for name in names]))
        assert len(list_children() - before) <= 2
    assert [image.format for image in cleansed] == names
    assert list_children() == before


@pytest.fixture(scope="module")
def timing() -> Iterator[IsolatedCleansing]:
    with IsolatedCleansing(RECIPE, 2, time_work) as made, ThreadPoolExecutor(2) as pool:
        list(pool.map(made.cleanse, [b"", b""]))  # so that both workers have started
        yield made


def write_webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + bytes(4) + body


def write_heif(brand: bytes, edge_px: int) -> bytes:
    """Return boxes that tell the size of a tile, of the image and of another tile."""
    sizes = b"".join(b"ispe" + bytes(4) + edge.to_bytes(4, "big") * 2 for edge in (512, edge_px, 320))
    return (24).to_bytes(4, "big") + b"ftyp" + brand + bytes(60) + sizes


def overlap(isolated: IsolatedCleansing, data: bytes) -> bool:
    """Cleanse it twice at once and tell whether both were worked on at the same time."""
    with ThreadPoolExecutor(2) as pool:
        spans = [
            (image.brightness_mean or 0.0, image.saturation_mean or 0.0)
            for image in pool.map(isolated.cleanse, [data, data])
        ]
    (_, end), (other_start, _) = sorted(spans)
    return other_start < end


@pytest.mark.parametrize(
    "data",
    [
        png_of_zeros(5_000, 5_000),
        b"GIF89a" + (5_000).to_bytes(2, "little") * 2,
        b"BM" + bytes(16) + (5_000).to_bytes(4, "little") * 2,
        write_webp(b"VP8X", bytes(4) + (3_999).to_bytes(3, "little") * 2),
        write_webp(b"VP8L", b"\x2f" + (3_999 << 14 | 3_999).to_bytes(4, "little")),
        write_webp(b"VP8 ", bytes(6) + (4_000).to_bytes(2, "little") * 2),
        write_heif(b"heic", 5_000),
        write_heif(b"avif", 4_000),
        b"II*\0" + bytes(17_000_000),
    ],
    ids=["png", "gif", "bmp", "webp extended", "webp lossless", "webp lossy", "heic", "avif", "tiff"],
)
def test_images_that_may_need_much_memory_are_decoded_one_at_a_time(timing: IsolatedCleansing, data: bytes) -> None:
    assert not overlap(timing, data)


@pytest.mark.parametrize(
    "data",
    [
        png_of_zeros(2_500, 2_500),
        write_heif(b"heic", 2_500),
        write_heif(b"avif", 2_000),
        b"II*\0",
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["png", "heic", "avif", "tiff", "header only"],
)
def test_other_images_are_decoded_at_once(timing: IsolatedCleansing, data: bytes) -> None:
    # Not always: a worker may have to be started first, which can take longer than the other one works.
    assert any(overlap(timing, data) for _ in range(5))


def test_a_worker_knows_nothing_of_our_environment(
    misbehaving: IsolatedCleansing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("FARMY_LABEL_STUDIO_TOKEN", "secret")
    monkeypatch.setenv("HOME", "/somewhere")
    misbehaving.close()
    names = (misbehaving.cleanse(b"show_environment").camera_model or "").split()
    assert "PATH" in names
    assert not [name for name in names if name.startswith(("AWS", "FARMY", "HOME"))]


def test_a_worker_stands_in_the_root_with_nothing_open_but_its_channel(misbehaving: IsolatedCleansing) -> None:
    with Path(__file__).open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        misbehaving.close()
        assert misbehaving.cleanse(b"count_open_files").camera_model == "3"
    assert misbehaving.cleanse(b"show_folder").camera_model == "/"


def test_a_worker_writes_no_files(misbehaving: IsolatedCleansing, tmp_path: Path) -> None:
    assert misbehaving.cleanse(f"write_file {tmp_path}".encode()).failure == "decoder_crash"
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]


def count_inherited_files() -> int:
    program = [sys.executable, "-c", "import os; print(len(os.listdir('/dev/fd')))"]
    return int(subprocess.run(program, capture_output=True, check=True, close_fds=False).stdout)


def test_other_children_inherit_nothing_of_a_worker() -> None:
    before = count_inherited_files()
    with IsolatedCleansing(RECIPE, 1) as isolated:
        isolated.cleanse(PNG)
        assert count_inherited_files() == before


def test_what_cannot_start_raises_instead_of_giving_verdicts(capfd: pytest.CaptureFixture[str]) -> None:
    def cleanse_nowhere(_data: bytes, _recipe: CleansingRecipe) -> CleansedImage:
        raise AssertionError

    cleanse_nowhere.__module__ = "no_such_module"
    with IsolatedCleansing(RECIPE, 1, cleanse_nowhere) as isolated:
        for _ in range(2):
            with pytest.raises(ServerStartError, match="it has ended"):
                isolated.cleanse(PNG)
    assert "no_such_module" in capfd.readouterr().err


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


HOW_A_PARENT_ENDS = """
import os, pathlib, psutil, signal, sys
from adapters.isolated_cleansing import cleanse_isolated
from lakehouse.quality import CleansingRecipe
data = pathlib.Path(sys.argv[1]).read_bytes()
assert cleanse_isolated(data, CleansingRecipe()).failure is None
assert cleanse_isolated(data, CleansingRecipe()).failure is None
print(*[child.pid for child in psutil.Process().children()], flush=True)
"""


@pytest.mark.parametrize("end", ["", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(1)"])
def test_a_worker_ends_with_its_parent(tmp_path: Path, end: str) -> None:
    (tmp_path / "image").write_bytes(PNG)
    finished = run_script(HOW_A_PARENT_ENDS + end, str(tmp_path / "image"))
    (process_id,) = map(int, finished.stdout.split())
    assert wait_for_end(process_id)
    assert finished.stderr == ""


FORK = """
import os, pathlib, psutil, sys
from adapters.isolated_cleansing import cleanse_isolated
from lakehouse.quality import CleansingRecipe
data = pathlib.Path(sys.argv[1]).read_bytes()
first = cleanse_isolated(data, CleansingRecipe())
child = os.fork()
again = [cleanse_isolated(data, CleansingRecipe()) == first for _ in range(20)]
if child:
    again.append(os.waitpid(child, 0)[1] == 0)
sys.exit(0 if all(again) else 1)
"""


def test_a_fork_has_workers_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(PNG)
    assert run_script(FORK, str(tmp_path / "image")).returncode == 0


def test_a_process_keeps_its_workers_for_each_recipe() -> None:
    before = list_children()
    recipes = [CleansingRecipe(standard_quality=80), CleansingRecipe(standard_quality=81)]
    for _ in range(3):
        for recipe in recipes:
            assert cleanse_isolated(PNG, recipe) == cleanse_image(PNG, recipe)
    assert len(list_children() - before) == 2


def make_answer(**changes: object) -> tuple[dict[str, Any], bytes]:
    image = cleanse_image(JPEG, RECIPE)
    facts = {field.name: getattr(image, field.name) for field in fields(image) if not field.name.endswith("_jpeg")}
    assert image.standard_jpeg is not None
    assert image.thumbnail_jpeg is not None
    header = {"facts": facts | changes, "standard_bytes": len(image.standard_jpeg)}
    return json.loads(json.dumps(header)), image.standard_jpeg + image.thumbnail_jpeg


def test_a_sound_answer_is_believed() -> None:
    header, body = make_answer()
    assert parse_answer(header, body, RECIPE) == cleanse_image(JPEG, RECIPE)


@pytest.mark.parametrize(
    "changes",
    [
        {"failure": "bored"},
        {"failure": "corrupt"},
        {"failure": 1},
        {"width_px": "96"},
        {"width_px": 96.0},
        {"width_px": True},
        {"width_px": 2**63},
        {"width_px": [96]},
        {"brightness_mean": float("nan")},
        {"brightness_mean": float("inf")},
        {"brightness_mean": 1},
        {"captured_at_local": "yesterday"},
        {"captured_at_local": 5},
        {"camera_make": "x" * 2_000},
        {"camera_make": "\ud800"},
        {"has_location": 1},
        {"something_else": 1},
    ],
)
def test_a_fact_that_cannot_be_is_not_believed(changes: dict[str, object]) -> None:
    header, body = make_answer(**changes)
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        parse_answer(header, body, RECIPE)


def test_pictures_that_cannot_be_are_not_believed() -> None:
    header, body = make_answer()
    wide = encode(make_image(3_000, 8), "JPEG")
    size = header["standard_bytes"]
    for standard_bytes, pictures in [
        (0, body),
        (-1, body),
        (len(body), body),
        (len(body) + 1, body),
        (True, body),
        (size, b""),
        (size, body[:-1]),
        (size, body[:size] + b"\xff\xd8\xff" + bytes(99)),
        (len(wide), wide + body[size:]),
        (size, body[:size] + wide),
        (len(PNG), PNG + body[size:]),
    ]:
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            parse_answer(header | {"standard_bytes": standard_bytes}, pictures, RECIPE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(make_answer()[0]["facts"])), JSON)
def test_any_value_of_a_fact_is_believed_or_refused(name: str, value: object) -> None:
    header, body = make_answer()
    header["facts"][name] = value
    try:
        image = parse_answer(header, body, RECIPE)
    except ValueError:
        return
    assert isinstance(image, CleansedImage)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["facts", "standard_bytes", "x"]), JSON), st.binary(max_size=64))
def test_any_answer_but_a_sound_one_is_refused(header: dict[str, object], body: bytes) -> None:
    with pytest.raises(ValueError, match="an answer of the form"):
        parse_answer(header, body, RECIPE)
