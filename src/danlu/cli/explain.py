"""`danlu explain RUN INPUT…`."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from danlu.base.errors import ConfigError, DataError
from danlu.base.log import display_width, pad
from danlu.base.machine import suit_process_to_training
from danlu.cli.inputs import image_inputs, one_line, text_inputs

if TYPE_CHECKING:
    import numpy as np

    from danlu.explanation.explain import Explanation

FOLDER = "explanations"
LONGEST_NAME = 80
TOKENS_SHOWN = 30
HALF_BAR = 10
TINTED_FROM = 0.15
# Of the 256 terminal colours, pale and strong: blue for the class and orange against it, told apart by most eyes.
FOR, AGAINST = (153, 75), (223, 208)


@click.command()
@click.argument("run")
@click.argument("inputs", nargs=-1, metavar="INPUT…")
@click.option("--class", "label", metavar="NAME", help="Explain this class instead of the answer.")
@click.option("--method", metavar="NAME", help="For images: hirescam (the default) or gradcam.")
@click.option("--out", metavar="FOLDER", default=FOLDER, show_default=True, help="Where the pictures go.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--gallery", "is_gallery", is_flag=True, help="Explain the examples of the run's report instead.")
def command(
    run: str,
    inputs: tuple[str, ...],
    label: str | None,
    method: str | None,
    out: str,
    as_json: bool,
    is_gallery: bool,
) -> None:
    """Show what the answers of RUN rest on: places of images, tokens of texts.

    INPUT is what `danlu predict` reads. Of an image, a picture of the heat is written; of a text, the weights of its
    tokens are printed, those for the class positive, those against it negative.

    \b
    danlu explain runs/latest a.jpg photos/ --class cat
    danlu explain runs/latest "很快，好吃"
    danlu explain runs/latest --gallery
    """
    suit_process_to_training()
    if is_gallery:
        if inputs or label or method or as_json or out != FOLDER:
            raise ConfigError("`--gallery` explains the examples of the report, each for its answer, and takes no more")
        _gallery(run)
        return
    if not inputs:
        raise ConfigError("no INPUT given", hint="`-` reads standard input, `--gallery` the examples of the report")
    from danlu.explanation.explain import load_explained, stream_explanations

    predictor = load_explained(run)
    expand = image_inputs if predictor.kind == "images" else text_inputs
    pictures = _Pictures(Path(out))
    failed = total = 0
    for explanation in stream_explanations(predictor, expand(inputs), label=label, method=method):
        total += 1
        failed += explanation.error is not None
        picture = pictures.write(explanation) if explanation.heat is not None else None
        if explanation.error is not None:
            click.echo(f"error: {one_line(explanation.input)}: {explanation.error}", err=True)
        if as_json:
            click.echo(json.dumps(_to_json(explanation, picture), ensure_ascii=False))
        elif explanation.error is None:
            _print(explanation, picture)
    if failed:
        raise DataError(f"{failed:,} of {total:,} inputs could not be read", hint="the lines marked `error` say why")


class _Pictures:
    """Writes overlays into one folder, each under a name of its own within this call. They must have heat."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: set[str] = set()

    def write(self, explanation: Explanation) -> Path:
        from danlu.base.files import make_folder, write_atomically
        from danlu.explanation.overlay import overlay

        make_folder(self.folder)
        data = overlay(cast("np.ndarray", explanation.pixels), cast("np.ndarray", explanation.heat))
        path = self.folder / self._own_name(explanation)
        write_atomically(path, lambda file: file.write(data))
        return path

    def _own_name(self, explanation: Explanation) -> str:
        base = f"{_plain(Path(explanation.input).stem)}-{_plain(explanation.explained or '')}"
        name, count = base, 2
        while name.casefold() in self.taken:
            name, count = f"{base}-{count}", count + 1
        self.taken.add(name.casefold())
        return f"{name}.png"


def _plain(text: str) -> str:
    """A piece of a file name: no separators, and short enough for any disk."""
    kept = re.sub(r"[^\w.-]+", "-", text).strip("-.") or "image"
    return kept.encode()[:LONGEST_NAME].decode(errors="ignore")


def _gallery(run: str) -> None:
    from danlu.explanation.explain import explain_gallery

    click.echo(str(explain_gallery(run)))


def _to_json(explanation: Explanation, picture: Path | None) -> dict[str, Any]:
    from danlu.explanation.overlay import brightest_place

    if explanation.error is not None:
        return {"input": explanation.input, "error": explanation.error}
    values: dict[str, Any] = {
        "input": explanation.input,
        "class": explanation.answer,
        "confidence": explanation.confidence,
        "explained": explanation.explained,
        "method": explanation.method,
    }
    if explanation.heat is not None:
        values |= {"picture": str(picture), "brightest": brightest_place(explanation.heat)}
    else:
        values |= {"tokens": explanation.tokens, "largest": explanation.largest, "change": explanation.change}
    return values | {"gap": explanation.gap, "note": explanation.note}


def _print(explanation: Explanation, picture: Path | None) -> None:
    from danlu.explanation.overlay import brightest_place

    answer = f"{explanation.answer} {explanation.confidence:.2%}"
    if explanation.explained != explanation.answer:
        answer += f", explained {explanation.explained}"
    if explanation.heat is not None:
        where = f"brightest at {brightest_place(explanation.heat)}" if explanation.heat.any() else explanation.note
        click.echo(f"{picture}\t{answer}\t{where}")
        return
    click.echo(answer)
    _print_tokens(explanation)
    click.echo()


def _print_tokens(explanation: Explanation) -> None:
    tokens = explanation.tokens or ()
    if _has_color():
        click.echo(f"  {_tinted(explanation.input, tokens)}")
    strongest = sorted(range(len(tokens)), key=lambda i: -abs(tokens[i][1]))[:TOKENS_SHOWN]
    shown = [tokens[i] for i in sorted(strongest)]
    width = max((display_width(_visible(text)) for text, _ in shown), default=0)
    for text, weight in shown:
        click.echo(f"  {pad(_visible(text), width)}  {weight:+5.2f}  {_bar(weight)}".rstrip())
    if len(shown) < len(tokens):
        click.echo(f"  the {len(shown)} strongest of {len(tokens)} tokens, in the order of the text")
    click.echo(f"  1.00 is {explanation.largest:.3g} in the logit; {explanation.method}")
    if explanation.note:
        click.echo(f"  note: {explanation.note}")


def _bar(weight: float) -> str:
    """Left of the line what speaks against the class, right of it what speaks for it."""
    signs = "█" * round(abs(weight) * HALF_BAR)
    return f"{signs:>{HALF_BAR}}│" if weight < 0 else f"{'':>{HALF_BAR}}│{signs}"


def _visible(text: str) -> str:
    """A token in one line, blanks as a sign of their own."""
    return "".join("␣" if sign.isspace() else sign if sign.isprintable() else "·" for sign in text)


def _tinted(text: str, tokens: tuple[tuple[str, float], ...]) -> str:
    """The text on one line, what speaks for the class on blue and underlined, what speaks against it on orange."""
    pieces, end = [], 0
    for token, weight in tokens:
        start = text.find(token, end)
        if start < 0 or not token:
            continue  # one sign of the text can be several tokens, as ½ is
        pieces.append(_flat(text[end:start]))
        end = start + len(token)
        if abs(weight) < TINTED_FROM:
            pieces.append(_flat(token))
        else:
            shade = (FOR if weight > 0 else AGAINST)[abs(weight) > 0.5]
            pieces.append(click.style(_flat(token), fg=16, bg=shade, underline=weight > 0))
    return "".join(pieces) + _flat(text[end:])


def _flat(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _has_color() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
