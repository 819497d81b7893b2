"""Where a search keeps its trials: a journal file, or a PostgreSQL database that several machines share."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from danlu.base.errors import ConfigError, DanluError, MachineError
from danlu.tuning.journal import JournalFile
from danlu.tuning.owners import enqueue_again

POSTGRESQL = ("postgresql", "postgres", "postgresql+pg8000")
DRIVER = "postgresql+pg8000"
BEAT_SECONDS, GRACE_SECONDS = 15, 60
MASK = "***"
HINT = "start the server, and look at host, port, user, password and database; `PGPASSWORD` may hold the password"


@dataclass(frozen=True)
class Place:
    """A journal file, or the URL of a database. What is shown of a URL has no password in it."""

    journal: Path | None = None
    url: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return str(self.journal) if self.url is None else masked(self.url)


def place_of(storage: str | None, journal: Path) -> Place:
    """The journal, or a checked URL. Raises `ConfigError` for what several processes cannot write safely."""
    if storage is None:
        return Place(journal=journal)
    scheme = storage.partition(":")[0].lower()
    shown = masked(storage)
    if scheme.startswith("sqlite"):
        raise ConfigError(
            f"`{shown}`: SQLite is refused as the storage of a search: its writers lock each other out, and a network"
            " file system loses its locks",
            hint="leave `--storage` out: the journal in the study's folder is safe for all workers of a machine; "
            "`postgresql://…` is for several machines",
        )
    if scheme not in POSTGRESQL or "://" not in storage:
        raise ConfigError(
            f"`{shown}` is no storage of a search",
            hint="leave `--storage` out for a journal in the study's folder, or give `postgresql://USER@HOST/DATABASE`",
        )
    try:
        parts = urlsplit(storage)
        parts.port  # noqa: B018 (raises for what is no number)
    except ValueError as error:
        raise ConfigError(f"`{shown}` is no URL: {error}", hint="`postgresql://USER@HOST:PORT/DATABASE`") from None
    if not parts.hostname or not parts.path.strip("/"):
        raise ConfigError(f"`{shown}` names no host or no database", hint="`postgresql://USER@HOST:PORT/DATABASE`")
    network = parts.netloc
    if parts.password is None and parts.username and os.environ.get("PGPASSWORD"):
        from urllib.parse import quote

        network = network.replace("@", f":{quote(os.environ['PGPASSWORD'], safe='')}@", 1)
    return Place(url=urlunsplit((DRIVER, network, parts.path, parts.query, "")))


def open_storage(place: Place) -> BaseStorage:
    """Optuna's storage. Raises `MachineError` when a database cannot be reached, without its password."""
    quiet()
    if place.url is None:
        if place.journal is None:
            raise ValueError("a place has a journal or a URL")
        return JournalStorage(JournalFile(place.journal))
    with secrets_kept(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that heartbeats are new
        storage = RDBStorage(
            place.url,
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=BEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=enqueue_again,
        )
        return optuna.storages.get_storage(storage)


@contextmanager
def opened(place: Place) -> Iterator[BaseStorage]:
    """The storage inside the block, in which a database that fails is told without its password."""
    with secrets_kept(place):
        storage = open_storage(place)
        try:
            yield storage
        finally:
            close(storage)


def close(storage: BaseStorage) -> None:
    """Give the connections to a database back."""
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, RDBStorage):
        backend.remove_session()
        backend.engine.dispose()


@contextmanager
def secrets_kept(place: Place) -> Iterator[None]:
    """What a database refuses, as an error of danlu's that tells no password."""
    if place.url is None:
        yield
        return
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except DanluError:
        raise
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        reason = getattr(cause, "orig", None) or cause or error
        told = " ".join(_plain(reason).split())[:300]
        raise MachineError(f"the storage `{place}` does not work: {scrubbed(told, place)}", hint=HINT) from None


def masked(url: str) -> str:
    """A URL without its password, wherever it stands.

    >>> masked("postgresql://danlu:s3cret@db:5432/studies?password=s3cret")
    'postgresql://danlu:***@db:5432/studies?password=***'
    """
    hidden = re.sub(r"(//[^/:@\s]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"(?i)((?:password|passwd|pwd|secret|token|key)=)[^&#\s]*", rf"\1{MASK}", hidden)


def scrubbed(text: str, place: Place) -> str:
    """A text without the password of a place, as it is and as URLs spell it."""
    password = urlsplit(place.url).password if place.url else None
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, MASK)
    return masked(text)


def quiet() -> None:
    """danlu tells what happens; Optuna's own lines would stand beside it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _plain(reason: object) -> str:
    """What PostgreSQL says, of the many fields pg8000 passes on."""
    arguments = getattr(reason, "args", ())
    if arguments and isinstance(arguments[0], dict):
        return str(arguments[0].get("M", "refused"))
    return str(reason)
