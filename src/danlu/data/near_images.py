"""Pairs of nearly equal pictures: saved again, resized, brightened. Linear in their number.

A picture is its 16 × 16 grey thumbnail, in the 128 directions that tell the pictures of this data apart, each scaled to
equal spread (whitening): trousers photographed in one way share their outline, and only what is left counts. Two
pictures are near when the cosine of these is 0.95 or more. With few pictures the directions lean on those of natural
pictures in general, whose power falls with the square of the frequency (Field, 1987, doi:10.1364/JOSAA.4.002379).
Candidates are neighbours in sorted bit signatures under several orders of the bits (Charikar, 2002,
doi:10.1145/509907.509965; Manku et al., 2007, doi:10.1145/1242572.1242592).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from danlu.checks.near_copies import MOST_NEIGHBOURS

SIDE = 16
DIRECTIONS = 128
NEAR = 0.95
FLATTEST = 2.0
SAMPLE = 20_000
PRIOR_WEIGHT = 256
CHUNK_BYTES = 4_000_000  # of uint8 pixels, four times as much as float32
ORDERS = 16
BIT_SLACK = 0.2
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def near_image_pairs(thumbnails: np.ndarray) -> np.ndarray:
    """(pairs, 2) int64 indices, the smaller first, of nearly equal pictures by their (N, 16 × 16) grey thumbnails.

    Pictures without contrast are near to nothing: they are found as blank instead.

    >>> rng = np.random.default_rng(0)
    >>> thumbnails = rng.integers(0, 255, (50, 256)).astype(np.float32)
    >>> thumbnails[31] = thumbnails[7] * 0.9 + rng.normal(0, 2, 256)
    >>> near_image_pairs(thumbnails).tolist()
    [[7, 31]]
    """
    visible = np.flatnonzero(thumbnails.std(1) >= FLATTEST)
    if len(visible) < 2:
        return np.zeros((0, 2), np.int64)
    vectors = _whitened(thumbnails[visible])
    pairs: np.ndarray = visible[_neighbours(vectors)]
    return pairs


def grey_thumbnails(pixels: Any) -> np.ndarray:
    """(N, channels, height, width) uint8 pixels → (N, 256) float32, the mean brightness of 16 × 16 areas."""
    out = np.empty((len(pixels), SIDE * SIDE), dtype=np.float32)
    at_once = max(1, CHUNK_BYTES // max(1, pixels[:1].nbytes)) if len(pixels) else 1
    for start in range(0, len(pixels), at_once):
        chunk = pixels[start : start + at_once].astype(np.float32)
        grey = np.tensordot(chunk, LUMINANCE, (1, 0)) if chunk.shape[1] == 3 else chunk[:, 0]
        rows, columns = _areas(grey.shape[1]), _areas(grey.shape[2])
        out[start : start + at_once] = (rows @ (grey @ columns.T)).reshape(len(grey), -1)
    return out


def _areas(size: int) -> np.ndarray:
    """(16, size) weights that average `size` pixels into 16 areas; a pixel on a border counts in parts."""
    edges = np.linspace(0, size, SIDE + 1)
    first, last = np.arange(size), np.arange(1, size + 1)
    overlap = np.minimum(edges[1:, None], last) - np.maximum(edges[:-1, None], first)
    weights: np.ndarray = (np.maximum(overlap, 0) * SIDE / size).astype(np.float32)
    return weights


def _whitened(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 128) unit vectors."""
    centred = thumbnails - thumbnails.mean(1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    sample = centred[np.linspace(0, len(centred) - 1, min(len(centred), SAMPLE)).astype(np.int64)]
    mean = sample.sum(0) / (len(sample) + PRIOR_WEIGHT)
    sample = sample - mean
    covariance = (sample.T @ sample + PRIOR_WEIGHT * _natural_covariance()) / (len(sample) + PRIOR_WEIGHT)
    spread, directions = np.linalg.eigh(covariance)
    scaled = (directions[:, -DIRECTIONS:] / np.sqrt(spread[-DIRECTIONS:])).astype(np.float32)
    vectors: np.ndarray = (centred - mean.astype(np.float32)) @ scaled
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def _natural_covariance() -> np.ndarray:
    """(256, 256) covariance of unit thumbnails whose power falls with the square of the frequency."""
    numbers = np.arange(SIDE)
    cosines = np.cos(np.pi * (numbers[None] + 0.5) * numbers[:, None] / SIDE)
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    waves = np.kron(cosines, cosines)
    power = 1 / (1 + (numbers[:, None] ** 2 + numbers**2).reshape(-1))
    power[0] = 0
    covariance: np.ndarray = waves.T * (power / power.sum()) @ waves
    return covariance


def _neighbours(vectors: np.ndarray) -> np.ndarray:
    """Pairs with a cosine of at least `NEAR`, as far as sorting brings them close together."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((DIRECTIONS, DIRECTIONS)))[0].astype(np.float32)
    bits = vectors @ rotation > 0
    words = np.ascontiguousarray(np.packbits(bits, axis=1)).view(np.uint64)
    found = []
    for _ in range(ORDERS):
        chosen = rng.permutation(DIRECTIONS)[:64]
        keys = np.ascontiguousarray(np.packbits(bits[:, chosen], axis=1)).view(">u8")[:, 0]
        order = np.argsort(keys, kind="stable")
        for step in range(1, min(MOST_NEIGHBOURS, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            close = np.bitwise_count(words[first] ^ words[second]).sum(1) <= BIT_SLACK * DIRECTIONS
            first, second = first[close], second[close]
            near = np.einsum("ij,ij->i", vectors[first], vectors[second]) >= NEAR
            found.append(np.stack([first[near], second[near]], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
