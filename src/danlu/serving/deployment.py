"""Which bundle answers which request, and how bundles are replaced while they serve."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from danlu.base import log
from danlu.base.bundle import MARK, Bundle, open_bundle
from danlu.base.errors import DanluError, ModelError
from danlu.prediction.predictor import Predictor, load_bundle
from danlu.prediction.reference import Reference, read_reference
from danlu.serving.lane import Lane, Limits
from danlu.serving.pace import Pace, measure_pace

POINTS = 2**32
MOST_NAMED = 20
RANGES_OF_BATCH = "dynamic-int8"  # takes the ranges of its numbers from all that is computed together


@dataclass(frozen=True)
class Arm:
    """One bundle in the service.

    `share`: of the requests it answers; 0 for a shadow, which answers nobody. `model`: its name and version in answers.
    """

    place: Path
    share: float
    bundle: Bundle
    predictor: Predictor
    lane: Lane
    name: str
    version: str
    reference: Reference

    @cached_property
    def model(self) -> str:
        return f"{self.name}@{self.version}"


class Marks:
    """What changes when a bundle is replaced: each mark's inode and time, as they are when this is made."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._seen = [_mark_of(place) for place in places]

    def have_changed(self) -> bool:
        """Since they were looked at last."""
        before, self._seen = self._seen, [_mark_of(place) for place in self._places]
        return self._seen != before


class Deployment:
    """The arms of a service. `places`: the bundles that answer, with their shares, which add up to 1."""

    def __init__(self, arms: Sequence[Arm], limits: Limits, shadow: Arm | None = None) -> None:
        self.arms, self.limits, self.shadow = list(arms), limits, shadow
        self._reloading = asyncio.Lock()
        self.before_swap: Callable[[Arm], None] = lambda arm: None
        if len({arm.bundle.classes for arm in self._all}) > 1:  # this worker was started between two replacements
            told = ", ".join(f"`{arm.bundle}`" for arm in self._all)
            log.warn(f"not all of these have the same classes: {told}; replace the others by their like")

    def choose(self, key: str | None) -> Arm:
        """The arm of a key, which is the same as long as the shares are."""
        if len(self.arms) == 1:
            return self.arms[0]
        return self.arms[arm_of(key or "", [arm.share for arm in self.arms])]

    async def reload(self) -> bool:
        """Replace every arm whose bundle was replaced on disk; whether all went well. A bad bundle changes nothing.

        Bundles of other classes are taken where all arms have these then, and all at once: answers of one service have
        the same classes, whichever arm gives them. Folders are replaced one after the other, so the first of them is
        refused until the last is there.
        """
        went_well = True
        async with self._reloading:
            found = [(arm, await self._found(arm)) for arm in self._all]
            went_well &= all(bundle is not None for _, bundle in found)
            there = [(arm, bundle or arm.bundle) for arm, bundle in found]
            fresh = [(arm, bundle) for arm, bundle in there if bundle.digest != arm.bundle.digest]
            others = [(arm, bundle) for arm, bundle in fresh if bundle.classes != arm.bundle.classes]
            for arm, bundle in fresh:
                if bundle.classes == arm.bundle.classes:
                    went_well &= await self._replace([(arm, bundle)])
            if all(bundle.classes == there[0][1].classes for _, bundle in there):
                went_well &= await self._replace(others)
            else:
                for arm, bundle in others:
                    beside = ", ".join(f"`{one}`" for _, one in there if one.classes != bundle.classes)
                    told = f"`{bundle}` has other classes than what is served beside it"
                    log.warn(f"{arm.model} goes on: {told}; it is taken as soon as {beside} is replaced by its like")
                went_well &= not others
        return went_well

    @property
    def _all(self) -> list[Arm]:
        return [*self.arms, *([self.shadow] if self.shadow is not None else [])]

    async def _found(self, arm: Arm) -> Bundle | None:
        """What lies at the place of an arm now; None where that cannot be served."""
        try:
            bundle = open_bundle(arm.place)
            if bundle.digest == arm.bundle.digest:
                await asyncio.to_thread(bundle.verify)  # its other files may have been replaced
            elif bundle.kind != arm.bundle.kind:
                raise ModelError(f"`{bundle}` reads {bundle.kind} now, it read {arm.bundle.kind} before")
        except DanluError as error:
            log.warn(f"{arm.model} goes on: {error.message}")
            return None
        return bundle

    async def _replace(self, replaced: Sequence[tuple[Arm, Bundle]]) -> bool:
        """Load these, and put all in their places at once, or none."""
        loaded: list[tuple[Arm, Arm]] = []
        for arm, bundle in replaced:
            try:
                fresh = await load_arm(arm.place, arm.share, self.limits)
                if fresh.bundle.digest != bundle.digest:
                    raise ModelError(f"`{bundle}` was replaced while it was read")
                loaded.append((arm, fresh))
            except DanluError as error:
                for _, fresh in loaded:
                    fresh.lane.close()
                for one, _ in replaced:
                    log.warn(f"{one.model} goes on: {error.message}")
                return False
        for arm, fresh in loaded:
            self._put(arm, fresh)
        return True

    def _put(self, arm: Arm, fresh: Arm) -> None:
        self.before_swap(fresh)
        self.arms = [fresh if one is arm else one for one in self.arms]
        self.shadow = fresh if self.shadow is arm else self.shadow
        log.say(f"{fresh.model} replaces {arm.model}")
        if fresh.bundle.classes != arm.bundle.classes:
            named = ", ".join(fresh.bundle.classes[:MOST_NAMED])
            log.warn(f"{fresh.model} has other classes than {arm.model}: {named}")
        arm.lane.close()


async def load_arm(place: Path, share: float, limits: Limits) -> Arm:
    """Read, check and measure a bundle, without holding up what is served meanwhile. Raises `DanluError`."""
    bundle = open_bundle(place)
    predictor, pace, reference = await asyncio.to_thread(_loaded, bundle, limits.threads)
    lane = Lane(predictor, pace, limits)
    return Arm(place, share, bundle, predictor, lane, bundle.name, bundle.version, reference)


def _loaded(bundle: Bundle, threads: int) -> tuple[Predictor, Pace, Reference]:
    predictor = load_bundle(bundle, spinning=False, most_threads=threads)
    return (
        predictor,
        measure_pace(predictor, depends_on_batch=bundle.content["default"] == RANGES_OF_BATCH),
        read_reference(bundle),
    )


def _mark_of(place: Path) -> tuple[int, int]:
    try:
        found = (place / MARK).stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)


def arm_of(key: str, shares: Sequence[float]) -> int:
    """Which arm a key belongs to.

    >>> {arm_of(str(user), [0.9, 0.1]) for user in range(50)}
    {0, 1}
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    point, ahead = int.from_bytes(digest[:4], "big") / POINTS, 0.0
    for place, share in enumerate(shares):
        ahead += share
        if point < ahead:
            return place
    return len(shares) - 1
