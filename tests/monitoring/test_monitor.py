"""`danlu monitor`: from a journal to numbers, alarms, an exit code, a page and a webhook."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from streams import CLASSES, MODEL, START, Stream, content_of, write_journal

from danlu.base.errors import ConfigError, ModelError
from danlu.base.journal import JournalWriter, keep_reference
from danlu.cli.monitor import command
from danlu.monitoring import webhook
from danlu.monitoring.alarms import Event
from danlu.monitoring.monitor import Monitor, MonitorSettings, monitor, watch
from danlu.monitoring.rows import Row
from journals import json_lines


@pytest.fixture
def steady(tmp_path: Path) -> Path:
    stream = Stream(0)
    return write_journal(tmp_path / "journal", stream.rows(1500), stream.reference())


@pytest.fixture
def drifted(tmp_path: Path) -> Path:
    stream = Stream(0)
    rows = [*stream.rows(1500), *stream.rows(900, first=1500, sure=3.0, mixture=(3, 1, 1, 1))]
    return write_journal(tmp_path / "journal", rows, stream.reference())


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any], list[int]]]:
    """An address, what was posted to it, and the statuses that it answers, 200 when there are no more."""
    posted: list[Any] = []
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook?token=s3cret", posted, statuses
        server.shutdown()
        thread.join()


def called(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_steady_service_is_told_in_numbers(steady: Path) -> None:
    result = called(steady, "--no-page")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"{MODEL}: steady"
    assert lines[1].startswith("  answers     1,500 from 2025-11-18 ")
    assert "below 0.7: " in lines[2] and "unknown: 0.0%" in lines[2]
    assert lines[3].split()[:4] == ["latency", "p50", "1.99", "ms"]
    assert lines[4].startswith("  classes     ") and all(name in lines[4] for name in CLASSES)
    assert not list(steady.glob("*.html"))


def test_drift_is_told_with_exit_code_3(drifted: Path) -> None:
    result = called(drifted)
    assert result.exit_code == 3
    assert result.stdout.startswith(f"{MODEL}: drift since 2025-11-18 ")
    assert "the model is less sure of its answers" in result.stdout or "probabilities are more spread" in result.stdout
    assert "`猫` is " in result.stdout
    page = (drifted / "monitor.html").read_text(encoding="utf-8")
    assert "猫" in page and "Look at what is sent now" in page and page.count("<svg") == 6, (
        "drift is drawn for a desk and for a phone"
    )
    assert 'http-equiv="refresh"' not in page and "<script" not in page


def test_everything_is_there_as_json(drifted: Path) -> None:
    result = called(drifted, "--json", "--no-page")
    (found,) = json.loads(result.stdout)["models"]
    assert (found["model"], found["state"], found["answers"]) == (MODEL, "drift", 2400)
    assert sum(found["class_shares"].values()) == pytest.approx(1)
    assert set(found["latency_ms"]) == {"p50", "p95", "p99"}
    (alarm,) = found["alarms"]
    assert alarm["end"] is None and alarm["signals"][0]["ratio"] > 1 and max(found["ratios"].values()) > 1


def test_only_the_latest_time_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    stream, now = Stream(0), time.time()
    rows = [*stream.rows(1000, start=now - 7200, shift=9.0), *stream.rows(1000, start=now - 600)]
    write_journal(tmp_path / "journal", rows, stream.reference())
    result = called(tmp_path / "journal", "--no-page")
    assert result.exit_code == 0 and ": steady" in result.stdout and "  alarm  " in result.stdout, "it is over"
    result = called(tmp_path / "journal", "--no-page", "--since", "1h")
    assert result.exit_code == 0 and " 1,000 from " in result.stdout
    with pytest.raises(ConfigError, match=r"nothing was answered in .* in this time"):
        monitor(tmp_path / "journal", MonitorSettings(since=1))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no journal at `nowhere`"),
        (["empty"], "nothing was answered in `empty`"),
        (["empty", "--false-alarm-days", "0"], "from 0.01 to 36,500, got 0"),
        (["empty", "--false-alarm-days", "nan"], "got nan"),
        (["empty", "--false-alarm-days", "inf"], "got inf"),
        (["empty", "--webhook", "ftp://x"], "starts with http"),
        (["empty", "--bundle", "empty"], "empty"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "empty").mkdir()
    result = called(*words)
    assert isinstance(result.exception, ConfigError) and told in str(result.exception)


@pytest.mark.parametrize("since", ["1", "yesterday", "-1h", "1w"])
def test_time_that_is_none_is_a_mistake_of_usage(steady: Path, since: str) -> None:
    result = called(steady, "--since", since)
    assert result.exit_code == 2 and "90m, 24h or 7d" in result.output


def test_journal_may_be_called_as_it_is_by_default(steady: Path) -> None:
    """`danlu monitor journal` names a folder, no sub-command."""
    assert steady.name == "journal" and called("journal", "--no-page").exit_code == 0


def test_model_without_reference_has_numbers_alone(tmp_path: Path) -> None:
    write_journal(tmp_path / "journal", Stream(0).rows(300))
    result = called(tmp_path / "journal")
    assert result.exit_code == 0 and result.stdout.startswith(f"{MODEL}: no reference")
    assert "There are no reference statistics" in (tmp_path / "journal" / "monitor.html").read_text(encoding="utf-8")


def test_lines_that_are_no_answers_are_counted(steady: Path) -> None:
    (path,) = steady.glob("*.jsonl")
    bad = [{"time": 1.0}, {**content_of(next(iter(Stream(0).rows(1)))), "confidence": "high"}, [1]]
    path.write_text(path.read_text(encoding="utf-8") + "".join(json.dumps(row) + "\n" for row in bad), encoding="utf-8")
    result = called(steady, "--no-page")
    assert result.exit_code == 0 and "3 lines of the journal could not be read" in result.stdout
    assert " 1,500 from " in result.stdout


def test_damaged_reference_is_refused(steady: Path) -> None:
    next((steady / "references").iterdir()).write_text(
        json.dumps({"model": MODEL, "reference": {"format": 2}}), encoding="utf-8"
    )
    with pytest.raises(ModelError, match="does not hold reference statistics"):
        monitor(steady)


def test_shadow_is_watched_beside_what_answers(tmp_path: Path) -> None:
    stream = Stream(0)
    rows = list(stream.rows(300))
    both = [one for row in rows for one in (row, replace(row, model="other@1", is_shadow=True))]
    found = monitor(write_journal(tmp_path / "journal", both, stream.reference()))
    assert [(one.model, one.is_shadow) for one in found.models] == [(MODEL, False), ("other@1", True)]


def test_alarm_that_lasts_is_posted(drifted: Path, receiver: tuple[str, list[Any], list[int]]) -> None:
    address, posted, _ = receiver
    monitor(drifted, MonitorSettings(webhook=address))
    (found,) = posted
    assert (found["source"], found["event"], found["model"]) == ("danlu", "drift", MODEL)
    assert (
        found["text"].startswith(MODEL) and found["signals"][0]["ratio"] > 1 and found["time"].startswith("2025-11-18T")
    )


def test_nothing_is_posted_where_nothing_is_wrong(steady: Path, receiver: tuple[str, list[Any], list[int]]) -> None:
    address, posted, _ = receiver
    monitor(steady, MonitorSettings(webhook=address))
    assert posted == []


def test_webhook_that_fails_for_a_moment_is_asked_again(
    receiver: tuple[str, list[Any], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, posted, statuses = receiver
    monkeypatch.setattr(webhook, "PAUSE", 0.01)
    statuses += [503, 500]
    assert webhook.post(address, Event("drift", "m", START, "x")) and len(posted) == 3


@pytest.mark.parametrize("status", [408, 429])
def test_webhook_that_has_too_much_to_do_is_asked_again(
    receiver: tuple[str, list[Any], list[int]], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    address, posted, statuses = receiver
    monkeypatch.setattr(webhook, "PAUSE", 0.01)
    statuses += [status]
    assert webhook.post(address, Event("drift", "m", START, "x")) and len(posted) == 2


@pytest.mark.parametrize(("statuses", "tries"), [([404], 1), ([500, 500, 500], 3)])
def test_webhook_that_fails_is_told_without_its_secret(
    receiver: tuple[str, list[Any], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statuses: list[int],
    tries: int,
) -> None:
    address, posted, answers = receiver
    monkeypatch.setattr(webhook, "PAUSE", 0.01)
    answers += statuses
    assert not webhook.post(address, Event("drift", "m", START, "x"))
    told = capsys.readouterr().err
    assert len(posted) == tries and f"status {statuses[0]}" in told and "s3cret" not in told


def test_webhook_nobody_listens_at_ends_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(webhook, "PAUSE", 0.01)
    assert not webhook.post("http://127.0.0.1:9/x", Event("drift", "m", START, "x"))
    assert "the webhook took no alarm" in capsys.readouterr().err


def test_watching_follows_the_journal_and_tells_what_is_new(
    tmp_path: Path, receiver: tuple[str, list[Any], list[int]]
) -> None:
    stream = Stream(0)
    folder = write_journal(tmp_path / "journal", stream.rows(1000, shift=9.0), stream.reference())
    events: list[Event] = []
    page = tmp_path / "m.html"
    settings = MonitorSettings(webhook=receiver[0], page=page)
    looks = watch(folder, settings, events.append, seconds=0.01)
    assert next(looks).models[0].state == "drift"
    assert [event.kind for event in events] == ["drift"] == [one["event"] for one in receiver[1]], "it lasts"
    assert '<meta http-equiv="refresh" content="30">' in page.read_text(encoding="utf-8")
    writer = JournalWriter(folder)
    for row in stream.rows(6000, first=1000, shift=9.0):
        writer.add(json_lines([content_of(row)]))
    writer.close()
    assert next(looks).models[0].state == "retrain"
    assert next(looks).models[0].state == "retrain"
    assert [event.kind for event in events] == ["drift", "retrain"] == [one["event"] for one in receiver[1]]


def test_watching_begins_before_anything_is_answered(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    looks = watch(tmp_path / "journal", seconds=0.01)
    assert next(looks).models == ()
    stream = Stream(0)
    write_journal(tmp_path / "journal", stream.rows(200), stream.reference())
    assert next(looks).models[0].state == "steady", "the reference came after the monitor was there"


def test_reading_takes_no_more_memory_the_longer_the_journal_is(tmp_path: Path) -> None:
    import tracemalloc

    stream = Stream(0)
    folder = write_journal(tmp_path / "journal", stream.rows(60_000), stream.reference())
    tracemalloc.start()
    try:
        reader = Monitor(folder, MonitorSettings())
        reader.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reader.result().models[0].timeline.whole().answers == 60_000
    assert peak < 16 * 2**20


def test_journals_of_replicas_are_read_together(tmp_path: Path) -> None:
    stream = Stream(0)
    rows = list(stream.rows(2400))
    folders = [write_journal(tmp_path / name, rows[place::2], stream.reference()) for place, name in enumerate("ab")]
    (found,) = monitor(folders).models
    assert found.timeline.whole().answers == 2400 and found.state == "steady"
    result = called(*folders, "--no-page")
    assert result.exit_code == 0 and " 2,400 from " in result.stdout
    with pytest.raises(ConfigError, match="no journal at"):
        monitor([*folders, tmp_path / "c"])


def test_drift_of_a_model_that_was_replaced_is_no_alarm_any_more(drifted: Path) -> None:
    rows = [replace(row, model="pets@ffffffffffff") for row in Stream(1).rows(300, first=5000)]
    write_journal(drifted, rows)
    result = called(drifted, "--json", "--no-page")
    first, second = json.loads(result.stdout)["models"]
    assert (first["model"], first["replaced"]) == ("pets@ffffffffffff", False)
    assert (second["model"], second["replaced"], second["state"]) == (MODEL, True, "drift")
    assert result.exit_code == 0
    assert f"{MODEL} (replaced): drift since" in called(drifted).stdout
    assert "Look at what is sent now" not in (drifted / "monitor.html").read_text(encoding="utf-8")


def test_burst_at_the_end_is_looked_at(tmp_path: Path) -> None:
    """Nothing comes after it that would bring another look."""
    stream = Stream(0)
    calm = list(stream.rows(1003))
    burst = [replace(row, time=calm[-1].time + place / 1000) for place, row in enumerate(stream.rows(600, shift=3.0))]
    folder = write_journal(tmp_path / "journal", [*calm, *burst], stream.reference())
    assert monitor(folder).models[0].state == "drift"
    assert called(folder, "--no-page").exit_code == 3


def test_watching_looks_again_although_few_answers_came(tmp_path: Path) -> None:
    stream, now = Stream(0), time.time()
    calm = [replace(row, time=now - 400 + place / 10) for place, row in enumerate(stream.rows(1003))]
    folder = write_journal(tmp_path / "journal", calm, stream.reference())
    looks = watch(folder, seconds=0.01)
    assert next(looks).models[0].state == "steady"
    few = stream.rows(200, shift=30.0)
    write_journal(folder, [replace(row, time=now - 60 + place / 1000) for place, row in enumerate(few)])
    assert next(looks).models[0].state == "drift"


def test_few_answers_are_said_to_be_few(tmp_path: Path) -> None:
    stream = Stream(0)
    folder = write_journal(tmp_path / "journal", stream.rows(60), stream.reference())
    assert "too few answers, of 100 that it takes" in called(folder, "--no-page").stdout


def test_model_that_is_its_own_shadow_is_watched_twice_and_not_double(tmp_path: Path) -> None:
    stream = Stream(0)
    rows = [one for row in stream.rows(5000) for one in (row, replace(row, is_shadow=True))]
    found = monitor(write_journal(tmp_path / "journal", rows, stream.reference()))
    assert [(one.is_shadow, one.state, len(one.alarms)) for one in found.models] == [
        (False, "steady", 0),
        (True, "steady", 0),
    ]
    assert {one.look.answers for one in found.models if one.look} == {5000}


def test_reference_that_comes_after_the_first_answer_is_used(tmp_path: Path) -> None:
    stream = Stream(0)
    folder = write_journal(tmp_path / "journal", stream.rows(50))
    looks = watch(folder, seconds=0.01)
    assert next(looks).models[0].state == "no reference"
    write_journal(folder, stream.rows(300, first=50), stream.reference())
    assert next(looks).models[0].state == "steady"


@pytest.mark.parametrize(
    "change",
    [
        {"time": 10**400},
        {"time": -1.0},
        {"confidence": 1e308},
        {"confidence": float("nan")},
        {"ms": 1e306},
        {"ms": float("inf")},
        {"class": "\ud800"},
        {"model": "\udfff"},
        {"features": [1e300]},
        {"features": "x"},
        {"features": None},
    ],
    ids=str,
)
def test_odd_row_is_passed_over(steady: Path, change: dict[str, Any]) -> None:
    (path,) = steady.glob("*.jsonl")
    row = content_of(next(iter(Stream(0).rows(1)))) | change
    path.write_bytes(path.read_bytes() + json.dumps(row).encode() + b"\n")
    result = called(steady, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["unread"] == 1


@pytest.mark.parametrize("status", [301, 302, 307])
def test_webhook_that_sends_elsewhere_took_nothing(
    receiver: tuple[str, list[Any], list[int]], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(webhook, "PAUSE", 0.01)
    receiver[2].append(status)
    assert not webhook.post(receiver[0], Event("drift", "m", START, "x")) and len(receiver[1]) == 1


def test_webhook_that_answers_rubbish_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "PAUSE", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for _ in range(3):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"rubbish\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert not webhook.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", Event("drift", "m", START, "x"))
        thread.join(5)


def test_two_versions_that_share_the_requests_are_both_watched(tmp_path: Path) -> None:
    stream = Stream(0)
    rows = list(stream.rows(2000, shift=3.0))
    both = [replace(row, model="pets@ffffffffffff") if place % 2 else row for place, row in enumerate(rows)]
    result = called(write_journal(tmp_path / "journal", both, stream.reference()), "--json", "--no-page")
    models = json.loads(result.stdout)["models"]
    assert [one["replaced"] for one in models] == [False, False]
    assert result.exit_code == 3, "the first drifts, although the other answered last"


@pytest.mark.parametrize("wrong", [lambda: time.time() + 400 * 86_400, lambda: 3.9e9, lambda: 1000.0])
def test_clock_that_was_far_wrong_for_a_while_spoils_nothing_and_is_told(tmp_path: Path, wrong: Any) -> None:
    stream = Stream(0)
    rows = [*stream.rows(1500), *stream.rows(900, first=1500, sure=3.0, mixture=(3, 1, 1, 1))]
    kept, reference = rows[:700] + rows[703:], stream.reference()
    right = monitor(write_journal(tmp_path / "right", kept, reference)).to_json()
    rows[700:703] = [replace(row, time=wrong() + place) for place, row in enumerate(rows[700:703])]
    folder = write_journal(tmp_path / "journal", rows, reference)
    found = monitor(folder, MonitorSettings(page=tmp_path / "m.html"))
    assert found.to_json() == {**right, "untimely": 3} and found.models[0].state == "drift"
    assert found.models[0].timeline.seconds == 10, "the chart is as fine as before"
    told = "3 answers are left out: their clock was before 2020, or more than a day ahead of this machine's"
    assert told in called(folder, "--no-page").stdout
    assert told.partition(":")[0] in (tmp_path / "m.html").read_text(encoding="utf-8")


def test_clock_a_little_ahead_is_believed(tmp_path: Path) -> None:
    """Another machine's, or a zone that was set wrongly."""
    rows = list(Stream(0).rows(300, start=time.time() + 12 * 3600))
    found = monitor(write_journal(tmp_path / "journal", rows))
    assert found.untimely == 0 and found.models[0].timeline.whole().answers == 300


def test_journal_with_nothing_but_wrong_times_asks_for_the_clock(tmp_path: Path) -> None:
    folder = write_journal(tmp_path / "journal", Stream(0).rows(30, start=3.9e9))
    with pytest.raises(ConfigError, match=r"nothing was answered in .*; 30 answers are left out") as caught:
        monitor(folder)
    assert caught.value.hint == "is the clock right, of the service and of this machine?"


def test_later_version_is_no_replacement_because_of_a_wrong_clock(tmp_path: Path) -> None:
    rows = list(Stream(0).rows(1000))
    rows[10] = replace(rows[10], model="pets@ffffffffffff", time=time.time() + 9e7)
    found = monitor(write_journal(tmp_path / "journal", rows))
    assert [(one.model, one.is_replaced) for one in found.models] == [(MODEL, False)]


def many_versions(folder: Path, count: int, each: int = 200) -> Path:
    """A service that takes another version each hour; the odd ones drift."""
    stream, reference = Stream(0), Stream(0).reference()
    rows: list[Row] = []
    for number in range(count):
        own = stream.rows(each, start=START + 3600 * number, shift=9.0 * (number % 2))
        rows += [replace(row, model=f"pets@{number:012x}", id=f"{number}-{row.id}") for row in own]
        keep_reference(folder, f"pets@{number:012x}", f"{number:012x}", reference.to_json())
    return write_journal(folder, rows)


def test_versions_that_were_replaced_are_kept_in_bounded_memory_and_told_in_short(tmp_path: Path) -> None:
    import tracemalloc

    folder = many_versions(tmp_path / "journal", 200)
    tracemalloc.start()
    try:
        reader = Monitor(folder, MonitorSettings())
        reader.read()
        reader.catch_up()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20
    found = reader.result()
    assert [one.model for one in found.models] == [f"pets@{number:012x}" for number in range(199, 178, -1)]
    assert [one.is_replaced for one in found.models] == [False] + 20 * [True]
    assert (found.older.versions, found.older.answers, found.older.alarms) == (179, 179 * 200, 89)
    assert [len(one.alarms) for one in found.models] == [one % 2 for one in range(199, 178, -1)], "alarms are kept"
    result = called(folder)
    lines = result.stdout.splitlines()
    assert result.exit_code == 3 and len(lines) < 60
    assert lines[-1] == "not listed: 179 older versions that were replaced, after 35,800 answers; their alarms: 89"
    assert lines[-2].startswith(f"pets@{179:012x} (replaced): drift; 200 answers from 2025-11-")
    assert lines[-2].endswith("; alarms: 1") and lines[-3].startswith(f"pets@{180:012x} (replaced): steady; 200 ")
    page = (folder / "monitor.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4 * 6 and "179 older versions that were replaced" in page
    assert "Replaced before" in page and f"pets@{180:012x}" in page and f"pets@{178:012x}" not in page
    told = json.loads(called(folder, "--json", "--no-page").stdout)
    assert len(told["models"]) == 21 and told["older"] == {"versions": 179, "answers": 35_800, "alarms": 89}


def test_version_that_answers_again_is_watched_again(tmp_path: Path) -> None:
    """A new version was no good, and the old bundle came back."""
    stream = Stream(0)
    old = list(stream.rows(1000))
    new = [replace(row, model="pets@ffffffffffff") for row in stream.rows(100, start=START + 7200)]
    again = list(stream.rows(800, start=START + 14_400, shift=9.0))
    folder = write_journal(tmp_path / "journal", [*old, *new], stream.reference())
    reader = Monitor(folder, MonitorSettings())
    reader.read()
    assert [one.is_replaced for one in reader.result().models] == [False, True]
    assert all(book is None or not len(book.watch._labels) for key, book in reader._books.items() if key[0] == MODEL)
    write_journal(folder, again)
    reader.read()
    reader.catch_up()
    found = {one.model: one for one in reader.result().models}
    assert found[MODEL].state == "drift" and not found[MODEL].is_replaced
    assert found[MODEL].timeline.whole().answers == 1800 and found[MODEL].look is not None
    assert found[MODEL].look.answers == 1800


def test_model_of_another_name_that_took_its_place_replaced_it(tmp_path: Path) -> None:
    stream = Stream(0)
    rows = [*stream.rows(900, shift=9.0)]
    rows += [replace(row, model="dogs@1") for row in stream.rows(900, start=START + 200)]
    folder = write_journal(tmp_path / "journal", rows, stream.reference())
    assert [one.is_replaced for one in monitor(folder).models] == [False, False], "it may answer again"
    write_journal(folder, [replace(row, model="dogs@1") for row in stream.rows(9, start=START + 90_000)])
    assert [(one.model, one.is_replaced) for one in monitor(folder).models] == [("dogs@1", False), (MODEL, True)]


def test_shadow_of_a_new_version_replaces_nothing_that_answers(tmp_path: Path) -> None:
    stream = Stream(0)
    rows = list(stream.rows(900, shift=3.0))
    shadows = [replace(row, model="pets@ffffffffffff", is_shadow=True, time=row.time + 0.01) for row in rows[-300:]]
    found = monitor(write_journal(tmp_path / "journal", [*rows, *shadows], stream.reference()))
    assert [one.is_replaced for one in found.models] == [False, False] and found.has_alarm


def test_version_that_some_workers_took_a_little_sooner_replaces_the_other(tmp_path: Path) -> None:
    stream = Stream(0)
    old = list(stream.rows(900))
    new = [replace(row, model="pets@ffffffffffff") for row in stream.rows(300, start=old[-1].time - 5)]
    found = monitor(write_journal(tmp_path / "journal", [*old, *new]))
    assert [(one.model, one.is_replaced) for one in found.models] == [("pets@ffffffffffff", False), (MODEL, True)]


def test_drift_of_a_model_that_was_replaced_is_not_posted(
    drifted: Path, receiver: tuple[str, list[Any], list[int]]
) -> None:
    address, posted, _ = receiver
    write_journal(drifted, [replace(row, model="pets@ffffffffffff") for row in Stream(1).rows(300, first=5000)])
    assert monitor(drifted, MonitorSettings(webhook=address)).models[1].alarm is not None
    assert posted == []


def test_who_bears_more_false_alarms_has_them_sooner(steady: Path) -> None:
    highest = []
    for days in (36_500.0, 30.0, 0.01):
        look = monitor(steady, MonitorSettings(days=days)).models[0].look
        highest.append(look.highest if look is not None else 0.0)
    assert highest[0] < highest[1] < highest[2]


def test_model_that_is_silent_for_hours_may_answer_again(tmp_path: Path) -> None:
    """By day one, by night another."""
    stream = Stream(0)
    rows = [*stream.rows(300)]
    rows += [replace(row, model="dogs@1") for row in stream.rows(300, start=START + 12 * 3600)]
    found = monitor(write_journal(tmp_path / "journal", rows))
    assert [one.is_replaced for one in found.models] == [False, False]


def test_last_answers_of_a_version_that_is_being_replaced_are_in_its_windows(tmp_path: Path) -> None:
    """Some workers take the new bundle a little later than others."""
    stream = Stream(0)
    old = list(stream.rows(400))
    new = [replace(row, model="pets@ffffffffffff") for row in stream.rows(20, start=old[-1].time + 1)]
    last = list(stream.rows(90, start=new[-1].time + 10))
    reader = Monitor(write_journal(tmp_path / "journal", [*old, *new], stream.reference()), MonitorSettings())
    reader.read()
    write_journal(tmp_path / "journal", last)
    reader.read()
    (look,) = [one.look for one in reader.result().models if one.model == MODEL]
    assert look is not None and look.answers > 400


def test_unknown_answers_and_those_of_low_confidence_are_told_apart(tmp_path: Path) -> None:
    rows = [
        replace(row, is_unknown=place < 10, numbers=(0.6 if place < 30 else 0.9, *row.numbers[1:]))
        for place, row in enumerate(Stream(0).rows(100))
    ]
    (told,) = monitor(write_journal(tmp_path / "journal", rows)).to_json()["models"]
    assert (told["unknown"], told["low_confidence"]) == (0.1, 0.3)


def test_answer_names_no_file_outside_the_references(tmp_path: Path) -> None:
    keep_reference(tmp_path / "journal" / "references", "x@12", "12", {})
    (tmp_path / "journal" / "references" / "references").rename(tmp_path / "out")
    rows = [replace(row, model="x@../../out/12") for row in Stream(0).rows(10)]
    assert monitor(write_journal(tmp_path / "journal", rows)).models[0].state == "no reference"
