"""`danlu demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from danlu.base import log
from danlu.base.extras import missing_packages
from danlu.base.machine import suit_process_to_training

SHOWN = 5


@click.command()
def command() -> None:
    """The whole way on 1,797 handwritten digits that come along: train, evaluate, export, predict, serve.

    It takes under a minute.
    """
    suit_process_to_training()
    from danlu.cli.evaluate import print_evaluation
    from danlu.data.split import read_manifest
    from danlu.evaluation.evaluate import evaluate
    from danlu.exporting.export import export
    from danlu.prediction.predictor import load
    from danlu.sources.known import read
    from danlu.training.train import train

    log.say("1. train: `danlu train digits`")
    run = train("digits")
    log.say(f"\n2. evaluate on the untouched test part: `danlu evaluate {run}`")
    evaluation = evaluate(run)
    print_evaluation(evaluation)
    log.say(f"\n3. export a bundle that is proven equal and needs no PyTorch: `danlu export {run}`")
    bundle = export(run)
    log.say(f"\n4. predict {SHOWN} test digits: `danlu predict {bundle} FILE…`")
    examples = read("digits")
    test = [row for row in read_manifest(run.manifest_file) if row.part == "test"][:SHOWN]
    place = {key: index for index, key in enumerate(examples.keys)}
    pixels = [examples.items[place[row.key]] for row in test]
    for row, answer in zip(test, load(bundle).predict(pixels), strict=True):
        log.say(f"  digit {row.key}: truth {row.label}, answer {answer.label}, confidence {answer.confidence:.2%}")
    log.say(f"\n5. serve for a moment: `danlu serve {run}`")
    if missing := missing_packages("serve"):
        log.say(f'  left out: needs {", ".join(missing)} (pip install "danlu[serve]")')
    else:
        _serve_for_a_moment(bundle, pixels[0], test[0].label)
    click.echo(f"test accuracy {evaluation.accuracy:.4f}")
    click.echo(f"run {run}")


def _serve_for_a_moment(bundle: Path, pixels: Any, truth: str) -> None:
    from danlu.inputs.images import thumbnail
    from danlu.serving.client import Client
    from danlu.serving.moment import served

    started = time.monotonic()
    with served(bundle) as address, Client(address) as client:
        answer = client.predict(thumbnail(pixels))
        seconds = time.monotonic() - started
        log.say(f"  {address} answers after {seconds:.1f} s: truth {truth}, answer {answer['class']}")
        log.say(f"  while it serves, {address}/ is a page to draw digits on")
