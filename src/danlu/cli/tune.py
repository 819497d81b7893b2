"""`danlu tune DATA`."""

from __future__ import annotations

import click

from danlu.base.errors import ConfigError
from danlu.base.machine import suit_process_to_training


@click.command()
@click.argument("data", required=False)
@click.argument("settings", nargs=-1, metavar="[section.key=value]…")
@click.option("--config", type=click.Path(), help="YAML file with settings that all trials have.")
@click.option("--trials", type=int, help="Stop after so many trials; default: 50, or as many as --minutes allow.")
@click.option("--minutes", type=float, help="Stop after so many minutes of search.")
@click.option("--workers", type=int, default=1, help="Search with this many processes on this machine.")
@click.option("--storage", metavar="URL", help="postgresql://… for several machines; default: a journal file.")
@click.option("--space", type=click.Path(), help="YAML file with ranges and lists to search over.")
@click.option("--grid", type=click.Path(), help="YAML file with lists; every combination is tried in full.")
@click.option("--models", metavar="A,B", help="Architectures to search over.")
@click.option("--sampler", default="tpe", help="tpe, random or grid.")
@click.option("--no-bundle", is_flag=True, help="End without the bundle, which `danlu export RUN` makes too.")
@click.option("--name", help="Name of the study; one that exists is gone on with.")
@click.option("--resume", metavar="STUDY", help="Go on with a study up to its budget, or the one given now.")
def command(
    data: str | None,
    settings: tuple[str, ...],
    config: str | None,
    name: str | None,
    resume: str | None,
    no_bundle: bool,
    **how: object,
) -> None:
    """Search for settings that do better on DATA than danlu's own, train the best in full, and test it once.

    \b
    danlu tune photos/ --minutes 30
    danlu tune reviews.csv --trials 100 --models ngrams,textcnn
    danlu tune photos/ --space space.yaml training.epochs=10
    danlu tune --resume runs/studies/20261130-120000-photos
    """
    suit_process_to_training()
    from danlu.cli.train import finish
    from danlu.tuning.plan import SearchSettings
    from danlu.tuning.tune import tune

    models = tuple(name for name in str(how.pop("models") or "").replace(",", " ").split())
    if data is not None and "=" in data and "." in data.partition("=")[0]:
        raise ConfigError(f"`{data}` is a setting; DATA comes first", hint=f"`danlu tune DATA {data}`")
    search = SearchSettings(models=models, **how)  # type: ignore[arg-type]
    tuning = tune(data, config=config, words=settings, name=name, resume=resume, search=search)
    if tuning.run is None:
        click.echo(str(tuning.study))
    else:
        finish(tuning.run, with_bundle=not no_bundle)
