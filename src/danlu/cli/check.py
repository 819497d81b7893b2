"""`danlu check`."""

from __future__ import annotations

import json

import click

from danlu.base.machine import suit_process_to_training


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--quick", is_flag=True, help="Leave out what takes a minute: measuring training steps.")
@click.option("--again", is_flag=True, help="Measure anew, and forget what was measured for earlier runs.")
def command(as_json: bool, quick: bool, again: bool) -> None:
    """What this machine can do: processor, memory, devices, packages, folders, and how training steps are fastest.

    What could end a process is tried in a child process. Exit code 5 if training cannot run.
    """
    suit_process_to_training()
    from danlu.base.errors import MachineError
    from danlu.base.extras import EXTRAS, missing_packages
    from danlu.base.machine import cache_folder, environment, free_disk_bytes, memory_bytes, package_versions
    from danlu.base.runs import runs_folder

    facts = environment()
    facts["memory_available_gb"] = round(memory_bytes()[1] / 1e9, 1)
    facts["packages"] = package_versions()
    facts["extras"] = {extra: missing_packages(extra) for extra in EXTRAS}
    facts["devices"] = _devices() if not facts["extras"]["train"] else []
    for word, folder in (("cache", cache_folder()), ("runs", runs_folder())):
        facts[f"{word}_folder"] = str(folder.absolute())
        facts[f"{word}_free_gb"] = round(free_disk_bytes(folder.absolute()) / 1e9, 1)
    if not facts["extras"]["train"] and not quick:
        facts["steps"], facts["chosen"] = _measured(again)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        _print(facts)
    missing = facts["extras"]["train"]
    if missing:
        raise MachineError(f"training needs {', '.join(missing)}", hint='pip install "danlu[train]"')


def _devices() -> list[str]:
    """Where tensors can live, with the speed of float32 products measured now on each."""
    import time

    import torch

    names = ["cpu"]
    names += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    told = []
    for name in names:
        size = 1024 if name == "cpu" else 4096
        matrix = torch.ones(size, size, device=name)
        best = 1e9
        for _ in range(5):
            started = time.perf_counter()
            float((matrix @ matrix)[0, 0])
            best = min(best, time.perf_counter() - started)
        label = torch.cuda.get_device_name(name) if name.startswith("cuda") else f"{torch.get_num_threads()} threads"
        told.append(f"{name} ({label}): {2 * size**3 / best / 1e9:,.0f} GFLOP/s in float32 products")
    return told


def _measured(again: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Ways of computing a step with their times, and what a run of an hour would be trained with."""
    from danlu.training.assemble import choose_device
    from danlu.training.choose_way import check_machine
    from danlu.training.start import readable_value

    ways, choices = check_machine(choose_device("auto"), again=again)
    return dict(ways), {key: f"{readable_value(value)}   {reason}" for key, (value, reason) in choices.items()}


TITLES = {
    "steps": "steps of vgg_cnn, 64 images of 32 × 32 pixels, forward and backward",
    "chosen": "chosen for a run of an hour (a run measures its own model)",
}


def _print(facts: dict[str, object]) -> None:
    for key, value in facts.items():
        name = TITLES.get(key) or key.replace("_", " ").replace(" gb", " (GB)")
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for inner, found in value.items():
                if key == "extras":
                    found = f"missing {', '.join(found)}" if found else "ready"
                click.echo(f"  {inner:<{44 if key == 'steps' else 22}} {found or 'not installed'}")
        elif isinstance(value, list):
            click.echo(f"{name}:")
            for row in value:
                click.echo(f"  {row}")
        else:
            click.echo(f"{name:<22} {value}")
