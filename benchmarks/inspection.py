"""Seconds, memory and copies found of `danlu inspect` on more and more images and texts, beside public tools.

Targets: 60,000 images of 28 × 28 or 60,000 texts within 60 s on 2 cores, seconds that grow with the number of examples
and no faster. Among the examples are copies whose originals are known: what a tool finds of them is counted, and how
many other pairs it lists. danlu also reads, splits, looks for the other faults it knows and writes its page.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import report
from PIL import Image
from startup import danlu_command

from danlu.base.settings import DataSettings
from danlu.data.near_texts import NEAR, SIGNS_IN_A_ROW, letters_and_digits
from danlu.sources.known import read
from danlu.sources.recognize import read_examples

TARGET_SECONDS = 60
TARGET_FROM = 60_000
SIZES = (15_000, 30_000, 60_000)
QUICK_SIZES = (400, 800)
MADE_FROM = "fashion-mnist"
IMAGE_COPIES, TEXT_COPIES, QUICK_COPIES = 200, 300, 20
JPEG_QUALITY = 60
LEAST_SIGNS = 10  # letters and digits of a text; shorter ones are near for danlu only where they are equal
WORTH_CHANGING = 40  # letters and digits of a text that gets a changed word
WORDS = ("真的", "非常", "有点", "比较", "特别")
SHOWN = 10
MOST_COMPARED = 1000
COPIED, SAVED_AGAIN = "copied", "saved again"
DANLU_CHECKS = {"exact": ("copies", "leaked_copies"), "near": ("near_copies", "leaked_near_copies")}
# What a process has used at most starts at what the one it was forked from uses, so a small one stands between.
MEASURE = """
import json, resource, subprocess, sys, time
out, *command = sys.argv[1:]
started = time.perf_counter()
code = subprocess.run(command).returncode
measured = {"seconds": time.perf_counter() - started, "stops": code == 3}
unit = 1 if sys.platform == "darwin" else 1024
measured["peak_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
open(out, "w").write(json.dumps(measured))
sys.exit(0 if code == 3 else code)
"""

Pair = tuple[str, str]
Text = tuple[str, str]  # the text and its label


@dataclass(frozen=True)
class Planted:
    """Data with copies: `pairs` are the keys of originals and copies by how these were made, `texts` those by key."""

    kind: str
    size: int
    place: Path
    pairs: dict[str, list[Pair]]
    texts: dict[str, str]

    @property
    def examples(self) -> int:
        return self.size + sum(map(len, self.pairs.values()))


@dataclass(frozen=True)
class Competitor:
    """`script` in peers/, or nothing for danlu."""

    name: str
    kind: str
    script: str = ""
    words: tuple[str, ...] = ()


COMPETITORS = (
    Competitor("danlu inspect", "images"),
    Competitor("cleanvision, its default checks", "images", "inspect_cleanvision.py"),
    Competitor("cleanvision, its default checks, n_jobs=1", "images", "inspect_cleanvision.py", ("--jobs=1",)),
    Competitor("cleanvision, copies only, n_jobs=1", "images", "inspect_cleanvision.py", ("--copies-only", "--jobs=1")),
    Competitor("danlu inspect", "texts"),
    Competitor("datasketch, MinHashLSH and true similarity", "texts", "near_datasketch.py"),
)
Results = dict[tuple[Competitor, int], list[dict[str, Any]]]


def main() -> None:
    arguments = _arguments()
    facts = report.start_facts(arguments)
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="danlu-bench-") as name:
        folder = Path(name)
        every = make_data(arguments, folder)
        for round_ in range(arguments.rounds):
            for planted, one in runs_of_a_round(arguments, every):
                result = run(one, planted, arguments.peers, folder)
                results.setdefault((one, planted.size), []).append(result)
                told = f"{one.name}   {planted.examples:,} {planted.kind}   {result['seconds']:.1f} s"
                report.say(f"round {round_ + 1}/{arguments.rounds}   {told}")
    peers = {key: value for found in results.values() for key, value in found[-1].get("versions", {}).items()}
    report.publish(
        arguments,
        "inspection",
        "Inspecting images and texts",
        {**facts, "peers": {f"{name} (peers)": value for name, value in peers.items()}},
        [row(one, found, danlu(results, one.kind)[size]) for (one, size), found in results.items()],
        [{"competitor": one.name, "kind": one.kind, "rounds": found} for (one, _), found in results.items()],
        notes(results),
    )


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, rounds=3)
    parser.add_argument("--texts", type=Path, help="table of texts and labels; without it no texts are inspected")
    parser.add_argument(
        "--peers", type=Path, help="python with cleanvision and datasketch; without it danlu runs alone"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="examples without the copies")
    parser.add_argument("--peer-sizes", type=int, nargs="+", help="those the peers get; default: the largest")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.sizes, arguments.peer_sizes = 1, list(QUICK_SIZES), None
    arguments.peer_sizes = arguments.peer_sizes or [max(arguments.sizes)]
    if arguments.texts is None:
        report.say("no --texts: texts are left out")
    if arguments.peers is None:
        report.say("no --peers: cleanvision and datasketch are left out")
    else:
        arguments.peers = arguments.peers.absolute()
    return arguments


def runs_of_a_round(arguments: argparse.Namespace, every: Sequence[Planted]) -> Iterable[tuple[Planted, Competitor]]:
    for planted in every:
        for one in COMPETITORS:
            asked = not one.script or (arguments.peers is not None and planted.size in arguments.peer_sizes)
            if one.kind == planted.kind and asked:
                yield planted, one


def make_data(arguments: argparse.Namespace, folder: Path) -> list[Planted]:
    """Images, and texts where there is a table, of every size; a larger one holds other copies than a smaller one."""
    copies = (QUICK_COPIES, QUICK_COPIES) if arguments.quick else (IMAGE_COPIES, TEXT_COPIES)
    every = [write_images(folder / f"images-{size}", size, copies[0]) for size in arguments.sizes]
    if arguments.texts is not None:
        base = read_texts(arguments.texts)
        every += [write_texts(folder / f"texts-{size}.csv", base, size, copies[1]) for size in arguments.sizes]
    return every


def write_images(folder: Path, size: int, copies: int) -> Planted:
    """Fashion-MNIST's first images as PNGs in class folders; some files copied, others saved again as JPEG."""
    examples = read(MADE_FROM, DataSettings())
    train = np.flatnonzero(np.array(examples.parts) == "train")[:size]
    names: list[str] = []
    for number, index in enumerate(train):
        names.append(f"class-{examples.labels[index]}/{number:05d}")
        path = folder / f"{names[-1]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(examples.items[index]).save(path)
    chosen = np.random.default_rng(0).choice(len(train), 2 * copies, replace=False)
    pairs: dict[str, list[Pair]] = {COPIED: [], SAVED_AGAIN: []}
    for number in chosen[:copies]:
        original, copy = f"{names[number]}.png", f"{names[number]}-copy.png"
        shutil.copyfile(folder / original, folder / copy)
        pairs[COPIED].append((original, copy))
    for number in chosen[copies:]:
        original, copy = f"{names[number]}.png", f"{names[number]}-again.jpg"
        Image.open(folder / original).save(folder / copy, quality=JPEG_QUALITY)
        pairs[SAVED_AGAIN].append((original, copy))
    return Planted("images", len(train), folder, pairs, {})


def read_texts(table: Path) -> list[Text]:
    """The different texts of a table, each on one line, of at least half the signs a joined one must have."""
    examples = read_examples(table, DataSettings())
    if examples.kind != "texts":
        raise SystemExit(f"`{table}` holds {examples.kind}, not texts")
    found = {
        " ".join(str(text).split()): examples.classes[label]
        for text, label in zip(examples.items, examples.labels, strict=True)
    }
    return [(text, label) for text, label in found.items() if len(letters_and_digits(text)) >= LEAST_SIGNS / 2]


def write_texts(path: Path, base: Sequence[Text], size: int, copies: int) -> Planted:
    """Two different texts joined, `size` times, and copies of some: other signs around the letters, or another word."""
    rng = random.Random(0)
    rows = join_texts(base, size, rng)
    long = [number for number, (text, _) in enumerate(rows) if len(letters_and_digits(text)) >= WORTH_CHANGING]
    rng.shuffle(long)
    made: dict[str, list[tuple[int, int]]] = {kind: [] for kind in CHANGES}
    for number in long:
        kind = next((kind for kind, pairs in made.items() if len(pairs) < copies), None)
        if kind is None:
            break
        text, label = rows[number]
        changed = CHANGES[kind](text, rng)
        if similarity(text, changed) >= NEAR:  # not where one word is many of a text's different pieces
            made[kind].append((number, len(rows)))
            rows.append((changed, label))
    if any(len(pairs) < copies for pairs in made.values()):
        raise SystemExit(f"too few of the {size:,} texts have {WORTH_CHANGING} letters and digits for {copies} copies")
    line = list(range(len(rows)))
    rng.shuffle(line)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows[number] for number in line)
    key = {number: line_key(place) for place, number in enumerate(line)}
    pairs = {kind: [(key[a], key[b]) for a, b in of_kind] for kind, of_kind in made.items()}
    return Planted("texts", size, path, pairs, {key[number]: text for number, (text, _) in enumerate(rows)})


def join_texts(base: Sequence[Text], size: int, rng: random.Random) -> list[Text]:
    """`size` texts that differ in their letters and digits, with the label of the first half."""
    if len(base) * (len(base) - 1) < 2 * size:
        raise SystemExit(f"{len(base):,} different texts are too few to join {size:,} from")
    rows: dict[str, Text] = {}
    while len(rows) < size:
        (first, label), (second, _) = rng.sample(base, 2)
        text = f"{first}，{second}"
        rows.setdefault(letters_and_digits(text), (text, label))
    return list(rows.values())


def change_signs(text: str, rng: random.Random) -> str:
    """Other case, full width, other punctuation; the letters and digits stay."""
    wide = "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in text.swapcase())
    changed = wide.replace("，", rng.choice(("！ ", " ", "……"))) + rng.choice(("～", "!!", "。。"))
    return changed if letters_and_digits(changed) == letters_and_digits(text) else text + "～"


def change_word(text: str, rng: random.Random) -> str:
    """One short word more, or two neighbouring letters less."""
    if rng.random() < 0.5:
        place = rng.randrange(len(text) + 1)
        return text[:place] + rng.choice(WORDS) + text[place:]
    places = [place for place in range(len(text) - 1) if text[place : place + 2].isalnum()]
    place = rng.choice(places)
    return text[:place] + text[place + 2 :]


CHANGES = {"other signs": change_signs, "another word": change_word}


def similarity(one: str, other: str) -> float:
    """The true Jaccard similarity by the signs in a row."""
    sets = [
        {text[place : place + SIGNS_IN_A_ROW] for place in range(len(text) - SIGNS_IN_A_ROW + 1)}
        for text in map(letters_and_digits, (one, other))
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def line_key(row_: int) -> str:
    """danlu's key of a row of a table whose first line is the header."""
    return f"line {row_ + 2}"


def run(one: Competitor, planted: Planted, python: Path | None, folder: Path) -> dict[str, Any]:
    """Run a competitor in a process of its own and count what it found."""
    out, measured = folder / "out", folder / "measured.json"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if one.script:
        command = [python, report.HERE / "peers" / one.script, "--data", planted.place, "--out", out / "peer.json"]
    else:
        command = [danlu_command(), "inspect", planted.place, "data.cache=false", "--out", out, "--json"]
    report.run_process(
        [sys.executable, "-c", MEASURE, measured, *command, *one.words],
        folder=folder,
        DANLU_RUNS=folder / "runs",
        DANLU_CACHE=folder / "cache",
    )
    found = json.loads(measured.read_text(encoding="utf-8"))
    listed = peer_groups(out / "peer.json", planted) if one.script else danlu_groups(out / "inspection.json")
    return {**found, "examples": planted.examples, **count(listed.pop("exact"), listed.pop("near"), planted), **listed}


def danlu_groups(path: Path) -> dict[str, Any]:
    """The groups of keys danlu calls equal or nearly equal, and all its findings in a sentence each."""
    findings = json.loads(path.read_text(encoding="utf-8"))["findings"]
    groups = {
        kind: [case["keys"] for found in findings if found["check"] in checks for case in found["cases"]]
        for kind, checks in DANLU_CHECKS.items()
    }
    return {**groups, "findings": {found["check"]: found["message"] for found in findings}}


def peer_groups(path: Path, planted: Planted) -> dict[str, Any]:
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["examples"] != planted.examples:
        raise SystemExit(f"a peer saw {result['examples']:,} examples of {planted.examples:,}")
    if planted.kind == "texts":
        result["near"] = [[line_key(row_) for row_ in pair] for pair in result["near"]]
    return {"exact": [], **{key: value for key, value in result.items() if key != "examples"}}


def count(exact: Sequence[Sequence[str]], near: Sequence[Sequence[str]], planted: Planted) -> dict[str, Any]:
    """How many planted pairs stand in one group, and how many other pairs the groups of near copies hold."""
    found_exact, found_near = together(exact), together(near)
    missed: dict[str, list[Pair]] = {}
    also_near = 0
    for kind, pairs in planted.pairs.items():
        missed[kind] = [pair for pair in pairs if not (found_exact(pair) or found_near(pair))]
        also_near += sum(map(found_near, pairs))
    of_planted = {frozenset(pair) for pairs in planted.pairs.values() for pair in pairs}
    others = [group for group in near if frozenset(group) not in of_planted]
    neighbours = [pair for group in others for pair in pairwise(group) if frozenset(pair) not in of_planted]
    return {
        "planted": {kind: len(pairs) for kind, pairs in planted.pairs.items()},
        "found": {kind: len(planted.pairs[kind]) - len(pairs) for kind, pairs in missed.items()},
        "other_pairs": sum(len(group) * (len(group) - 1) // 2 for group in near) - also_near,
        "largest_group": max(map(len, near), default=0),
        "missed_examples": {kind: [told(pair, planted) for pair in pairs[:SHOWN]] for kind, pairs in missed.items()},
        "other_examples": [told(group[:SHOWN], planted) for group in others[:SHOWN]],
        "other_apart": grey_levels_apart(planted, neighbours),
        "copies_apart": grey_levels_apart(planted, planted.pairs.get(SAVED_AGAIN, ())),
    }


def grey_levels_apart(planted: Planted, pairs: Sequence[Pair]) -> float | None:
    """How far the pixels of pairs of images are from each other on the scale to 255: mean of a pair, median of pairs.

    Of 1,000 pairs at most; None without any.
    """

    def pixels(key: str) -> np.ndarray:
        return np.asarray(Image.open(planted.place / key), dtype=np.float32)

    if planted.kind != "images" or not pairs:
        return None
    return statistics.median(float(np.abs(pixels(a) - pixels(b)).mean()) for a, b in pairs[:MOST_COMPARED])


def together(groups: Sequence[Sequence[str]]) -> Callable[[Pair], bool]:
    """Whether both keys of a pair stand in one group."""
    places: dict[str, set[int]] = {}
    for number, group in enumerate(groups):
        for key in group:
            places.setdefault(key, set()).add(number)
    return lambda pair: bool(places.get(pair[0], set()) & places.get(pair[1], set()))


def told(keys: Sequence[str], planted: Planted) -> list[str]:
    return [f"{key}: {planted.texts[key]}" if key in planted.texts else key for key in keys]


def row(one: Competitor, found: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    by_round, danlus = ([[result["seconds"]] for result in of] for of in (found, reference))
    seconds = report.summarize([value for (value,) in by_round])
    last = found[-1]
    apart = "" if last["other_apart"] is None else f" ({last['other_apart']:.1f} apart)"
    told_target = ""
    if not one.script and last["examples"] >= TARGET_FROM:
        told_target = f"≤ {TARGET_SECONDS} s: {'met' if seconds['median'] <= TARGET_SECONDS else 'missed'}"
    return {
        "competitor": f"{one.name}, {one.kind}",
        "examples": last["examples"],
        "n": seconds["n"],
        "seconds, median": seconds["median"],
        "min": seconds["min"],
        "max": seconds["max"],
        "seconds per 10,000": seconds["median"] / last["examples"] * 1e4,
        "this ÷ danlu": report.ratio(by_round, danlus),
        "peak MB": round(statistics.median(result["peak_bytes"] for result in found) / 1e6),
        "planted pairs found": ", ".join(f"{last['found'][kind]}/{of} {kind}" for kind, of in last["planted"].items()),
        "other near pairs": f"{last['other_pairs']:,}{apart}",
        "target": told_target,
    }


def danlu(results: Results, kind: str) -> dict[int, list[dict[str, Any]]]:
    """danlu's rounds by the number of examples without copies."""
    return {size: found for (one, size), found in results.items() if one.kind == kind and not one.script}


def notes(results: Results) -> list[str]:
    images = danlu(results, "images")
    copies_apart = images[max(images)][-1]["copies_apart"]
    written = [
        "whole processes, imports included; the files are in the operating system's cache, danlu's own cache is off",
        "this ÷ danlu: within a round and on the same data, the median of the rounds (and range). peak MB: resident"
        " memory of the largest process; with n_jobs=1 cleanvision has one, by default one a core beside its own",
        "planted pairs found: an example and its copy in one group of equal or nearly equal ones; other near pairs:"
        " all others in groups of nearly equal ones, right or not (the JSON shows some), and for images the grey levels"
        f" of 255 that neighbours in these groups are apart; images and their JPEG copies are {copies_apart:.1f} apart",
        f"images: {MADE_FROM}'s as PNG, some files copied, some saved again as JPEG of quality {JPEG_QUALITY}",
    ]
    if danlu(results, "texts"):
        written.append(
            f"texts: two of the table joined, at least {LEAST_SIGNS} letters and digits; copies with other punctuation,"
            f" case and width, or with one short word more or two letters less. Near is a similarity of {NEAR} or more;"
            " of a text with only other signs danlu lists its first form, datasketch both"
        )
    for kind in ("images", "texts"):
        written += growth(kind, danlu(results, kind))
    written += [
        f"{one.name}: {found[-1]['candidates']:,} pairs of {found[-1]['examples']:,} texts before the true similarity"
        for (one, _), found in results.items()
        if "candidates" in found[-1]
    ]
    return written


def growth(kind: str, by_size: dict[int, list[dict[str, Any]]]) -> list[str]:
    """How danlu's seconds and memory grow from the smallest to the largest size."""
    if len(by_size) < 2:
        return []
    least, most = by_size[min(by_size)], by_size[max(by_size)]
    more = most[-1]["examples"] - least[-1]["examples"]
    seconds = report.ratio(*([[result["seconds"]] for result in found] for found in (most, least)))
    peaks = [statistics.median(result["peak_bytes"] for result in found) for found in (least, most)]
    return [
        f"danlu, {most[-1]['examples'] / least[-1]['examples']:.2f} times the {kind}: {seconds} times the seconds,"
        f" {(peaks[1] - peaks[0]) / 1e6 / more * 1e4:.1f} MB more for each 10,000 more"
    ]


if __name__ == "__main__":
    main()
