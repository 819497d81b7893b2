"""What can be wrong with a training: one file a disease, each with `look(evidence) -> Diagnosis | None`.

In the order of causes before what they cause: of two that are equally sure, the earlier one is told first.
"""

from __future__ import annotations

from danlu.base.registry import Member, Registry

DISEASES = Registry(
    "disease",
    {
        "bad_numbers": Member("danlu.diseases.bad_numbers:look", "NaN or infinite numbers in the inputs"),
        "constant_input": Member("danlu.diseases.constant_input:look", "all inputs are alike"),
        "wrong_input_range": Member("danlu.diseases.wrong_input_range:look", "inputs that are not scaled"),
        "softmax_before_loss": Member("danlu.diseases.softmax_before_loss:look", "softmax or sigmoid before the loss"),
        "eval_mode": Member("danlu.diseases.eval_mode:look", "layers that stay in eval mode while training"),
        "frozen_parameters": Member("danlu.diseases.frozen_parameters:look", "parameters that never change"),
        "unshuffled_data": Member("danlu.diseases.unshuffled_data:look", "batches of one class after the other"),
        "leaking_data": Member("danlu.diseases.leaking_data:look", "train examples in validation or test"),
        "exploding_gradients": Member("danlu.diseases.exploding_gradients:look", "gradients that grow without bound"),
        "rate_too_high": Member("danlu.diseases.rate_too_high:look", "learning rate too high"),
        "strong_weight_decay": Member("danlu.diseases.strong_weight_decay:look", "weight decay that stops learning"),
        "dead_units": Member("danlu.diseases.dead_units:look", "units that say the same to every example"),
        "vanishing_gradients": Member("danlu.diseases.vanishing_gradients:look", "gradients too small in early layers"),
        "rate_too_low": Member("danlu.diseases.rate_too_low:look", "learning rate too low"),
        "exploding_loss": Member("danlu.diseases.exploding_loss:look", "a loss that grows, or is no number"),
        "shuffled_labels": Member("danlu.diseases.shuffled_labels:look", "labels unrelated to the inputs"),
        "noisy_labels": Member("danlu.diseases.noisy_labels:look", "many wrong labels"),
        "imbalance": Member("danlu.diseases.imbalance:look", "a rare class that is not learnt"),
        "class_collapse": Member("danlu.diseases.class_collapse:look", "nearly always the same answer"),
        "overfitting": Member("danlu.diseases.overfitting:look", "examples learnt by heart"),
        "underfitting": Member("danlu.diseases.underfitting:look", "train examples not learnt either"),
        "noisy_validation": Member("danlu.diseases.noisy_validation:look", "a validation score that is mostly chance"),
        "plateau": Member("danlu.diseases.plateau:look", "no progress for most of the training"),
        "slow_loading": Member("danlu.diseases.slow_loading:look", "steps that wait for their batches"),
        "cannot_overfit": Member("danlu.diseases.cannot_overfit:look", "one small batch cannot be learnt by heart"),
        "loss_does_not_move": Member("danlu.diseases.loss_does_not_move:look", "a loss that stays where it began"),
    },
)
