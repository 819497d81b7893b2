"""`danlu predict MODEL INPUT…`."""

from __future__ import annotations

import json

import click

from danlu.base import log
from danlu.base.errors import ConfigError, DataError
from danlu.base.machine import suit_process_to_training
from danlu.cli.inputs import image_inputs, one_line, text_inputs


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, metavar="INPUT…")
@click.option("--variant", metavar="NAME", help="Of a bundle: fp32, int8 …; default: what was measured to be best.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(model: str, inputs: tuple[str, ...], variant: str | None, as_json: bool) -> None:
    """Answer for each INPUT with MODEL: a bundle, or a run.

    Image models take files and folders. Text models take texts, .txt files (a text a line) and tables with a text
    column. `-` reads standard input: a file name or a text a line.

    \b
    danlu predict runs/latest/bundle a.jpg b.png photos/
    danlu predict runs/latest "很快，好吃" --json
    """
    suit_process_to_training()
    from danlu.inputs.texts import TextRecipe
    from danlu.prediction.predictor import load

    if not inputs:
        raise ConfigError("no INPUT given", hint="`-` reads standard input")
    predictor = load(model, variant=variant, spinning=False)  # the readers of files need the processor
    expand = image_inputs if predictor.kind == "images" else text_inputs
    failed = cut = total = 0
    for answer in predictor.stream(expand(inputs)):
        total += 1
        failed += answer.error is not None
        cut += answer.is_cut
        if as_json:
            click.echo(json.dumps(answer.to_json(), ensure_ascii=False))
        elif answer.error is not None:
            click.echo(f"error\t-\t{one_line(answer.input)}: {answer.error}")
        else:
            click.echo(f"{answer.label}\t{answer.confidence:.2%}\t{one_line(answer.input)}")
    if not total:
        log.warn("standard input held no line to answer")
    if cut and isinstance(predictor.recipe, TextRecipe):
        read = predictor.recipe.max_length
        log.warn(f"{cut:,} of {total:,} texts are longer than the {read:,} tokens the model reads of each")
    if failed:
        told = "images: files and folders" if predictor.kind == "images" else "texts"
        raise DataError(
            f"{failed:,} of {total:,} inputs could not be read",
            hint=f"the lines marked `error` say why; this model reads {told}",
        )
