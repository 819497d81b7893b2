"""Nearly equal texts of a table by datasketch: MinHash, its index, then the true similarity, as its manual advises.

Texts are compared as danlu compares them: letters and digits alone, sets of three signs in a row, Jaccard. Pairs are
told by their rows.
"""

from __future__ import annotations

import csv
import time
import unicodedata

import contract
from datasketch import MinHash, MinHashLSH

NEAR = 0.8
HASHES = 128
SIGNS_IN_A_ROW = 3


def main() -> None:
    parser = contract.parser(__doc__)
    parser.add_argument("--column", default="text")
    arguments = parser.parse_args()
    started = time.perf_counter()
    with open(arguments.data, encoding="utf-8", newline="") as file:
        texts = [letters_and_digits(row[arguments.column]) for row in csv.DictReader(file)]
    hashed = MinHash.generator(([piece.encode() for piece in pieces(text)] for text in texts), num_perm=HASHES)
    index = MinHashLSH(threshold=NEAR, num_perm=HASHES)
    candidates: list[tuple[int, int]] = []
    for row, minhash in enumerate(hashed):
        candidates += [(other, row) for other in index.query(minhash)]
        index.insert(row, minhash)
    similar = [pair for pair in candidates if similarity(*(pieces(texts[row]) for row in pair)) >= NEAR]
    contract.give_back(
        arguments,
        ("datasketch", "numpy"),
        work_seconds=time.perf_counter() - started,
        examples=len(texts),
        candidates=len(candidates),
        near=similar,
    )


def letters_and_digits(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def pieces(text: str) -> set[str]:
    return {text[place : place + SIGNS_IN_A_ROW] for place in range(len(text) - SIGNS_IN_A_ROW + 1)}


def similarity(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


if __name__ == "__main__":
    main()
