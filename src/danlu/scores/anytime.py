"""Which of two is better, by tests that may be looked at after every example: the promise holds for the moment one
stops, however it was chosen.

Each keeps an e-value: money won against the claim that both are equally good, from 1 at the start. Whoever plays a fair
game multiplies it by 20 with a probability of at most 1 in 20 (Ville, 1939); at 20 it is decided, and `better` is 0 for
the first or 1 for the second.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

DECIDES = 20.0
MOST_IN_BLOCK = 20


@dataclass
class PairedTest:
    """Two answers to the same examples. Only those count that one alone has right: each is a fair coin where both are
    equally good. The e-value is the likelihood of the coins, mixed over all coins by Beta(1/2, 1/2), over that of fair
    ones (Robbins, 1970).

    >>> test = PairedTest()
    >>> for _ in range(12):
    ...     test.add(first_right=True, second_right=False)
    >>> test.better
    0
    """

    only_first: int = 0
    only_second: int = 0
    highest: float = 1.0
    better: int | None = None

    def add(self, *, first_right: bool, second_right: bool) -> None:
        if first_right == second_right:
            return
        self.only_first += first_right
        self.only_second += second_right
        self.highest = max(self.highest, self.e_value)
        if self.better is None and self.highest >= DECIDES:
            self.better = int(self.only_second > self.only_first)

    @property
    def e_value(self) -> float:
        a, b = self.only_first, self.only_second
        log = math.lgamma(a + 0.5) + math.lgamma(b + 0.5) - math.lgamma(a + b + 1) - math.log(math.pi)
        return _from_log(log + (a + b) * math.log(2))


@dataclass
class SharesTest:
    """Two shares of right answers, each to examples of its own.

    Examples wait until there is a block of both, in about the ratio in which they came so far; a block multiplies the
    e-value by the likelihood under the shares seen before it, over that under their weighted mean (Turner, Ly and
    Grünwald, "Generic E-variables for exact sequential k-sample tests", 2021).
    """

    right: list[int] = field(default_factory=lambda: [0, 0])
    seen: list[int] = field(default_factory=lambda: [0, 0])
    highest: float = 1.0
    better: int | None = None
    _log: float = 0.0
    _waiting: tuple[deque[bool], deque[bool]] = field(default_factory=lambda: (deque(), deque()))
    _used_right: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _used: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _block: tuple[int, int] = (1, 1)

    def add(self, which: int, is_right: bool) -> None:
        """An example of the first (0) or the second (1)."""
        self.seen[which] += 1
        self.right[which] += is_right
        self._waiting[which].append(is_right)
        while all(len(waiting) >= size for waiting, size in zip(self._waiting, self._block, strict=True)):
            self._play()

    @property
    def e_value(self) -> float:
        return _from_log(self._log)

    @property
    def shares(self) -> tuple[float, float]:
        """Of right answers, so far."""
        first, second = (right / seen if seen else 0.0 for right, seen in zip(self.right, self.seen, strict=True))
        return first, second

    def _play(self) -> None:
        sizes = self._block
        guessed = [(right + 0.5) / (used + 1) for right, used in zip(self._used_right, self._used, strict=True)]
        together = sum(size * share for size, share in zip(sizes, guessed, strict=True)) / sum(sizes)
        for which, size in enumerate(sizes):
            for _ in range(size):
                is_right = self._waiting[which].popleft()
                share = guessed[which]
                self._log += math.log(share / together if is_right else (1 - share) / (1 - together))
                self._used_right[which] += is_right
                self._used[which] += 1
        self.highest = max(self.highest, self.e_value)
        if self.better is None and self.highest >= DECIDES:
            self.better = int(self.shares[1] > self.shares[0])
        self._block = _block_like(self.seen)


def _block_like(seen: list[int]) -> tuple[int, int]:
    """The next block's sizes, known before its examples are: one of the rarer, as many of the other as come with it."""
    ratio = min(MOST_IN_BLOCK, max(1, round(max(seen) / max(1, min(seen)))))
    return (ratio, 1) if seen[0] >= seen[1] else (1, ratio)


def _from_log(value: float) -> float:
    return math.exp(min(value, 700.0))
