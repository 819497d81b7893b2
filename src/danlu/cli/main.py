"""`danlu`: finds the command, and turns errors into one message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from importlib import import_module
from typing import Any

import click

from danlu.base import log
from danlu.base.errors import DanluError

COMMANDS = {
    "train": ("danlu.cli.train", "Train a classifier on a folder, a table or a known data set."),
    "inspect": ("danlu.cli.inspect", "Describe data and look for its faults before training."),
    "probe": ("danlu.cli.probe", "Try in half a minute whether and with which learning rate a training would learn."),
    "tune": ("danlu.cli.tune", "Search for better settings, and train the best."),
    "evaluate": ("danlu.cli.evaluate", "Score a run on its test part or on other data."),
    "diagnose": ("danlu.cli.diagnose", "Name what is wrong with a training, and the command that cures it."),
    "report": ("danlu.cli.report", "Write the report of a run anew, or its charts as PNG files."),
    "compare": ("danlu.cli.compare", "Compare runs on the same test examples."),
    "export": ("danlu.cli.export", "Make a bundle of a run, which answers without PyTorch."),
    "predict": ("danlu.cli.predict", "Answer for images or texts."),
    "serve": ("danlu.cli.serve", "Answer over HTTP."),
    "monitor": ("danlu.cli.monitor", "Watch what a service answers: numbers, drift, alarms, a page."),
    "explain": ("danlu.cli.explain", "Show what answers rest on: places of images, tokens of texts."),
    "runs": ("danlu.cli.runs", "List all runs with their results."),
    "data": ("danlu.cli.data", "Known data sets: list and fetch."),
    "config": ("danlu.cli.config", "Settings: show, write a file, print the schema."),
    "list": ("danlu.cli.list", "What can be named: models, sources, schedules and more."),
    "check": ("danlu.cli.check", "What this machine can do."),
    "demo": ("danlu.cli.demo", "Train, evaluate and predict on the digits that come along."),
}
ORDER = list(COMMANDS)


class Lazy(click.Group):
    """A group that imports a command only when it is called, so that `--help` stays light."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ORDER

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from danlu.base.registry import nearest_names

            raise click.UsageError(f"no command called {args[0]!r}; {nearest_names(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.version_option(package_name="danlu", message="danlu %(version)s")
@click.pass_context
def app(context: click.Context, debug: bool, quiet: bool) -> None:
    """danlu (丹炉): from a folder of images or a table of texts to a classifier you can trust.

    \b
    danlu inspect photos/               what is in the data, and what is wrong with it
    danlu train photos/                 a folder with one sub-folder a class
    danlu train reviews.csv             a table with texts and labels
    danlu evaluate runs/latest
    danlu predict runs/latest a.jpg
    """
    context.obj = {"debug": debug}
    if quiet:
        context.with_resource(log.silence())


def main() -> None:
    """The entry point; never shows a traceback for a user's mistake."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    debug = "--debug" in sys.argv
    try:
        app(prog_name="danlu", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except DanluError as error:
        if debug:
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as stopped:
        sys.exit(
            getattr(stopped.__cause__ or stopped, "exit_code", _signal_code)
        )  # click wraps the first in the second
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"internal error: {type(error).__name__}: {error}\n\nhint: {_bug_report()}", file=sys.stderr)
        sys.exit(1)


_signal_code = 130


def _interrupt(number: int, frame: Any) -> None:
    global _signal_code
    _signal_code = 128 + number
    raise KeyboardInterrupt


def _bug_report() -> str:
    """Write the traceback to a file and name it."""
    from danlu.base.machine import environment

    with tempfile.NamedTemporaryFile(
        "w", prefix="danlu-error-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(f"{environment()}\n{sys.argv}\n\n{traceback.format_exc()}")
    return f"this is a mistake of danlu's; please report it with the file `{file.name}`"
