"""The visible loop and what it is made of: losses, optimizers, schedules, stopping, checkpoints, the record."""

from __future__ import annotations

from danlu.base.extras import require_extra
from danlu.base.registry import Member, Registry

require_extra("train", "training")

LOSSES = Registry(
    "loss",
    {
        "cross_entropy": Member("danlu.training.losses:cross_entropy", "negative log likelihood, with label smoothing"),
        "focal": Member(
            "danlu.training.losses:focal", "cross entropy that counts easy examples less (Lin et al., 2017)"
        ),
        "mse": Member(
            "danlu.training.losses:mse", "squared distance of probabilities to the one-hot label; for lessons"
        ),
        "l1": Member(
            "danlu.training.losses:l1", "absolute distance of probabilities to the one-hot label; for lessons"
        ),
    },
    plural="losses",
)
OPTIMIZERS = Registry(
    "optimizer",
    {
        "sgd": Member(
            "danlu.training.optimizers:sgd", "stochastic gradient descent with momentum, Nesterov's by default"
        ),
        "adam": Member("danlu.training.optimizers:adam", "adaptive moments (Kingma and Ba, 2015)"),
        "adamw": Member(
            "danlu.training.optimizers:adamw", "Adam with decoupled weight decay (Loshchilov and Hutter, 2019)"
        ),
        "rmsprop": Member("danlu.training.optimizers:rmsprop", "step size by a running mean of squared gradients"),
        "muon": Member(
            "danlu.training.optimizers:muon",
            "orthogonalised momentum for matrices and kernels, AdamW for the rest",
        ),
    },
)
SCHEDULES = Registry(
    "schedule",
    {
        "constant": Member("danlu.training.schedules:constant", "the learning rate as set"),
        "step": Member("danlu.training.schedules:step", "times 0.1 every 30 epochs, by default"),
        "plateau": Member(
            "danlu.training.schedules:plateau", "times 0.5 after 5 epochs without a better validation loss"
        ),
        "cosine": Member("danlu.training.schedules:cosine", "half a cosine down to 0 (Loshchilov and Hutter, 2017)"),
        "one_cycle": Member(
            "danlu.training.schedules:one_cycle", "cosine up, then down to near 0 (Smith and Topin, 2019)"
        ),
        "warmup_cosine": Member("danlu.training.schedules:warmup_cosine", "straight line up, then half a cosine down"),
        "warmup_linear": Member("danlu.training.schedules:warmup_linear", "straight line up, then straight down to 0"),
    },
)
