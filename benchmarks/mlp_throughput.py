"""Training images per second of the 784-256-128-10 network on Fashion-MNIST, danlu against its peers.

Every competitor trains on the images of danlu's train part, batch 64, Adam at 1e-3, loss and accuracy kept for every
batch, no validation in any clock, in a process of its own: one warm-up epoch, then the timed ones.
"""

from __future__ import annotations

import report
import throughput
from throughput import SAME, Competitor

from danlu.base.machine import available_cores

SPLIT = [0.7, 0.1, 0.2]  # danlu's default; the set states its own test part
QUICK_SPLIT = [0.1, 0.7, 0.2]
PEERS = {"peers": "torch, lightning, keras and jax"}


def competitors() -> dict[str, Competitor]:
    cores = available_cores()
    same = "threads as danlu chose"
    tutorial, tuned, lightning = "train_tutorial.py", "train_torch_tuned.py", "train_lightning.py"
    keras = ("--backend", "jax")
    return {
        "danlu": Competitor("danlu", throughput.DANLU),
        "danlu-all-cores": Competitor(f"danlu, training.threads={cores}", throughput.DANLU, (), cores),
        "tutorial": Competitor("tutorial loop, torchvision's steps", tutorial, ("--pillow",)),
        "tutorial-same": Competitor(f"tutorial loop, torchvision's steps, {same}", tutorial, ("--pillow",), SAME),
        "tensors": Competitor("tutorial loop, tensors only", tutorial),
        "tensors-same": Competitor(f"tutorial loop, tensors only, {same}", tutorial, (), SAME),
        "tensors-2": Competitor("tutorial loop, tensors only, num_workers=2", tutorial, ("--workers", "2")),
        "torch-tuned": Competitor("PyTorch tuned by hand", tuned),
        "torch-tuned-same": Competitor(f"PyTorch tuned by hand, {same}", tuned, (), SAME),
        "lightning": Competitor("Lightning, defaults", lightning),
        "lightning-fast": Competitor("Lightning, all extras off", lightning, ("--trainer", "fast")),
        "lightning-fast-same": Competitor(f"Lightning, all extras off, {same}", lightning, ("--trainer", "fast"), SAME),
        "lightning-tuned-same": Competitor(
            f"Lightning barebones, tuned, {same}", lightning, ("--trainer", "tuned"), SAME
        ),
        "keras": Competitor("Keras on JAX, defaults", "train_keras.py", keras),
        "keras-32": Competitor(
            "Keras on JAX, steps_per_execution=32",
            "train_keras.py",
            (*keras, "--quiet", "--steps-per-execution", "32"),
        ),
    }


def main() -> None:
    every = competitors()
    arguments = throughput.parser(__doc__, every, PEERS).parse_args()
    if arguments.quick:
        arguments.rounds, arguments.epochs = 1, 1
    asked = throughput.asked_for(every, arguments)
    facts = report.start_facts(arguments)
    images, results = throughput.run_in_turn(arguments, asked, "mlp", QUICK_SPLIT if arguments.quick else SPLIT)
    report.publish(
        arguments,
        "mlp_throughput",
        "Training throughput of a 784-256-128-10 network on Fashion-MNIST",
        {**facts, "peers": throughput.versions(asked, results), "images": images},
        throughput.table(asked, results),
        results,
        throughput.notes(images, results),
    )


if __name__ == "__main__":
    main()
