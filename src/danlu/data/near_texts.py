"""Pairs of nearly equal texts: other punctuation, case or width of signs, a few changed words. Linear in their number.

Texts are compared by their letters, digits and emoji. Equal ones are near; of the others those whose sets of three
signs in a row have a Jaccard similarity of 0.8 or more. Candidates come from MinHash signatures in bands (Broder, 1997,
doi:10.1109/SEQUEN.1997.666900).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from danlu.checks.near_copies import MOST_NEIGHBOURS
from danlu.inputs.texts import clean_text

COUNTED_MARKS = ("Mn", "Mc", "So")  # vowel signs of Indian scripts, and emoji, which can turn a meaning round
SIGNS_IN_A_ROW = 3
SHORTEST = 10
NEAR = 0.8
HASHES = 64
BANDS = 16
# By the standard deviation of a share of 64, an estimate of 0.65 or less of a true 0.8 is a three-sigma event.
ESTIMATE_SLACK = 0.15
CHUNK_SIGNS = 1_000_000


def near_text_pairs(texts: Sequence[str]) -> np.ndarray:
    """(pairs, 2) int64 indices, the smaller first, of nearly equal texts.

    Texts of fewer than 10 letters and digits are near only when these are equal.

    >>> near_text_pairs(["很好吃！", "很好吃", "不好吃"]).tolist()
    [[0, 1]]
    """
    plain = [letters_and_digits(text) for text in texts]
    first: dict[str, int] = {}
    equal: list[tuple[int, int]] = []
    for index, text in enumerate(plain):
        other = first.setdefault(text, index)
        if other != index and text:
            equal.append((other, index))
    long = np.array([index for text, index in first.items() if len(text) >= SHORTEST], dtype=np.int64)
    pairs = np.array(equal, dtype=np.int64).reshape(-1, 2)
    if len(long) < 2:
        return pairs
    similar = long[_similar([plain[i] for i in long])]
    return np.unique(np.sort(np.concatenate([pairs, similar]), axis=1), axis=0)


def letters_and_digits(text: str) -> str:
    """What of a text is compared.

    >>> letters_and_digits("ＧＯＯＤ， 很 好!")
    'good很好'
    """
    plain = unicodedata.normalize("NFKC", clean_text(text)).casefold()
    if plain.isascii():
        return "".join(filter(str.isalnum, plain))
    return "".join(sign for sign in plain if sign.isalnum() or unicodedata.category(sign) in COUNTED_MARKS)


def _similar(texts: Sequence[str]) -> np.ndarray:
    """Pairs by MinHash, then by the true similarity."""
    signatures, sets = _signatures(texts)
    rows = HASHES // BANDS
    found = []
    for band in range(BANDS):
        keys = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows]).view(f"V{4 * rows}")[:, 0]
        _, bucket = np.unique(keys, return_inverse=True)
        order = np.argsort(bucket, kind="stable")
        for step in range(1, min(MOST_NEIGHBOURS, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            same = bucket[a] == bucket[b]
            if not same.any():
                break
            found.append(np.stack([a[same], b[same]], axis=1))
    if not found:
        return np.zeros((0, 2), np.int64)
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    estimate = (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(1)
    pairs = pairs[estimate >= NEAR - ESTIMATE_SLACK]
    near = [_jaccard(sets[a], sets[b]) >= NEAR for a, b in pairs]
    found_near: np.ndarray = pairs[np.array(near, dtype=bool)]
    return found_near


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def _signatures(texts: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """(texts, 64) uint32 MinHash values, and each text's set of hashed signs in a row."""
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.empty((len(texts), HASHES), dtype=np.uint32)
    sets: list[np.ndarray] = []
    start = 0
    while start < len(texts):
        end, signs = start, 0
        while end < len(texts) and signs < CHUNK_SIGNS:
            signs += len(texts[end])
            end += 1
        chunk = [_hashed(text) for text in texts[start:end]]
        joined = np.concatenate(chunk)
        starts = np.cumsum([0, *(len(row) for row in chunk[:-1])])
        for number, factor in enumerate(factors):
            mixed = (joined * factor) >> np.uint64(32)
            signatures[start:end, number] = np.minimum.reduceat(mixed, starts)
        sets += chunk
        start = end
    return signatures, sets


def _hashed(text: str) -> np.ndarray:
    """The set of the text's signs in a row as sorted uint64 numbers."""
    signs = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    count = len(signs) - SIGNS_IN_A_ROW + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for place in range(SIGNS_IN_A_ROW):
        mixed = (mixed ^ signs[place : place + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed)
