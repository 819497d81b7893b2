"""What a row of the journal costs: lines of JSON as danlu writes them, beside SQLite in WAL mode.

Both write the same rows, 1,000 at a time. Processor seconds are of the whole process, as they are taken from the
requests; then the rows are read again, and four processes fill the same journal at once, as workers do.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import report

from danlu.base.journal import Journal, JournalWriter

ROWS, QUICK_ROWS = 100_000, 5000
WRITERS, ROWS_EACH = 4, 20_000
AT_ONCE = 1000
Row = dict[str, Any]


def main() -> None:
    parser = report.parser(__doc__, rounds=5)
    arguments = parser.parse_args()
    count = QUICK_ROWS if arguments.quick else ROWS
    each = count // 10 if arguments.quick else ROWS_EACH
    facts = report.start_facts(arguments)
    rows = [row_of(number) for number in range(count)]
    ways: dict[str, tuple[Callable[[Path, list[Row]], None], Callable[[Path], int]]] = {
        "JSON lines": (write_lines, read_lines),
        "SQLite, WAL": (write_sqlite, read_sqlite),
    }
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for round_ in range(arguments.rounds):
        for way, (write, read) in ways.items():
            with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
                found[way].append(measured(Path(name), rows, write, read, each))
            report.say(f"round {round_ + 1}/{arguments.rounds}   {way}   {found[way][-1]}")
    report.publish(
        arguments,
        "journal",
        "A row of the journal",
        facts,
        [row(way, samples) for way, samples in found.items()],
        found,
        [
            f"{count:,} rows by one writer, then {WRITERS} processes with {each:,} rows each into the same journal",
            "microseconds of processor time a row; bytes on disk a row",
        ],
    )


def measured(
    folder: Path, rows: list[Row], write: Callable[[Path, list[Row]], None], read: Callable[[Path], int], each: int
) -> dict[str, float]:
    begun = time.process_time()
    write(folder / "one", rows)
    written = time.process_time() - begun
    size = sum(path.stat().st_size for path in (folder / "one").rglob("*") if path.is_file())
    begun = time.process_time()
    if read(folder / "one") != len(rows):
        raise RuntimeError("rows are missing")
    reading = time.process_time() - begun
    context = multiprocessing.get_context("fork")
    begun = time.perf_counter()
    writers = [context.Process(target=write, args=(folder / "many", rows[:each])) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    together = time.perf_counter() - begun
    lost = WRITERS * each - read(folder / "many")
    return {
        "write_us": 1e6 * written / len(rows),
        "read_us": 1e6 * reading / len(rows),
        "bytes": size / len(rows),
        "together_us": 1e6 * together / (WRITERS * each),
        "lost": lost,
    }


def row_of(number: int) -> Row:
    share = (number * 7919 % 1_000_003) / 1_000_003
    return {
        "time": 1.8e9 + number / 1000,
        "id": f"0123456789ab-{number:x}",
        "model": "photos@0123456789ab",
        "class": f"class {number % 10}",
        "unknown": False,
        "confidence": round(share, 6),
        "entropy": round(2 * share, 6),
        "ms": round(share, 3),
        "features": [round(share + place, 4) for place in range(9)],
    }


def lines_of(rows: Sequence[Row]) -> list[bytes]:
    return [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]


def write_lines(folder: Path, rows: list[Row]) -> None:
    writer = JournalWriter(folder)
    for start in range(0, len(rows), AT_ONCE):
        writer.add(lines_of(rows[start : start + AT_ONCE]))
        while len(writer._added) > 20 * AT_ONCE:
            time.sleep(0.001)
    writer.close()


def read_lines(folder: Path) -> int:
    return sum(1 for _ in Journal(folder).rows())


def connected(folder: Path) -> sqlite3.Connection:
    folder.mkdir(exist_ok=True)
    connection = sqlite3.connect(folder / "journal.db", timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS answers (time REAL, id TEXT, model TEXT, class TEXT, unknown INTEGER,"
        " confidence REAL, entropy REAL, ms REAL, features TEXT)"
    )
    return connection


def write_sqlite(folder: Path, rows: list[Row]) -> None:
    connection = connected(folder)
    for start in range(0, len(rows), AT_ONCE):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO answers VALUES (?,?,?,?,?,?,?,?,?)", values(rows[start : start + AT_ONCE]))
        connection.execute("COMMIT")
    connection.close()


def values(rows: list[Row]) -> Iterator[tuple[Any, ...]]:
    for one in rows:
        *plain, features = one.values()
        yield (*plain, orjson.dumps(features).decode())


def read_sqlite(folder: Path) -> int:
    connection = connected(folder)
    count = 0
    for *_, features in connection.execute("SELECT * FROM answers ORDER BY time"):
        orjson.loads(features)
        count += 1
    connection.close()
    return count


def row(way: str, samples: list[dict[str, float]]) -> dict[str, Any]:
    def told(key: str, form: str = ".1f") -> str:
        return report.spread([one[key] for one in samples], form)

    return {
        "journal": way,
        "write, µs": told("write_us"),
        "read, µs": told("read_us"),
        "4 writers at once, µs": told("together_us"),
        "bytes": told("bytes", ".0f"),
        "lost": f"{statistics.median(one['lost'] for one in samples):,.0f}",
    }


if __name__ == "__main__":
    main()
