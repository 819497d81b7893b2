"""What holds for every disease, and the limits of each on numbers made by hand."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from danlu.base.config import read_config
from danlu.cli.main import COMMANDS
from danlu.diseases import DISEASES
from danlu.diseases.diagnosis import Cure, Diagnosis, surest_first
from danlu.diseases.evidence import TrainingEvidence, ValidationAnswers
from danlu.diseases.examine import examine

NAMES = DISEASES.names()


def look(name: str, evidence: TrainingEvidence) -> Diagnosis | None:
    found: Diagnosis | None = DISEASES.load(name)(evidence)
    return found


def epochs(count: int, **courses: Any) -> list[dict[str, Any]]:
    """Rows of a history; a course is a number, or one for each epoch."""
    usual = {"train_loss": 0.3, "train_accuracy": 0.95, "validation_loss": 0.4, "validation_accuracy": 0.93}
    usual |= {"learning_rate": 1e-3, **courses}
    return [
        {"epoch": i, **{key: value[i] if isinstance(value, (list, tuple)) else value for key, value in usual.items()}}
        for i in range(count)
    ]


def steps(losses: Any) -> list[dict[str, Any]]:
    return [{"step": i, "epoch": 0, "loss": loss, "learning_rate": 1e-3} for i, loss in enumerate(losses)]


def layer(name: str, kind: str = "Linear", **values: Any) -> dict[str, Any]:
    usual = {"gradient_norm": 1.0, "weight_norm": 10.0, "update_ratio": 1e-3, "dead_share": 0.0}
    usual |= {"activation_mean": 0.0, "activation_std": 1.0}
    if kind == "ReLU":
        usual |= {"gradient_norm": None, "weight_norm": None, "update_ratio": None}
    return {"name": name, "kind": kind, "parameters": 0 if kind == "ReLU" else 100, **usual, **values}


def watched(count: int = 5, layers: Any = None, **values: Any) -> list[dict[str, Any]]:
    usual = {
        "loss": 1.0,
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "labels": {"0": 32, "1": 32},
        "steps_timed": 10,
        "milliseconds": {"loading": 1.0, "forward": 5.0, "backward": 5.0, "update": 1.0},
        "layers": layers or [layer("0"), layer("1", "ReLU"), layer("2"), layer("3")],
    }
    return [{"step": 10 * i, "epoch": i, **usual, **values} for i in range(count)]


def first(**values: Any) -> dict[str, Any]:
    none = {"numbers": 0, "names": []}
    return {
        "inputs": {
            "kind": "numbers",
            "examples": 64,
            "bad_examples": 0,
            "alike": 1,
            "varying": 1.0,
            "mean": 0.0,
            "std": 1.0,
            "lowest": -2.0,
            "highest": 2.0,
        },
        "scores": {
            "loss": 0.7,
            "shape": [64, 2],
            "bad": 0,
            "guessing_loss": math.log(2),
            "is_cross_entropy": True,
            "are_probabilities": False,
            "lie_between_0_and_1": False,
        },
        "parameters": {
            "total": 1000,
            "frozen": none,
            "not_in_optimizer": none,
            "without_gradient": none,
            "zero_gradient": none,
        },
        "resting": {"of": 2, "count": 0, "names": []},
        "optimizer": {"name": "AdamW", "learning_rate": 1e-3, "weight_decay": 0.01},
        **values,
    }


def answers(count: int = 200, error: float = 0.07, seed: int = 0) -> ValidationAnswers:
    """Two classes, unsure answers wrong more often."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    confidence = rng.uniform(0.5, 1, count)
    wrong = np.argsort(confidence)[: round(error * count)]
    said = labels.copy()
    said[wrong] = 1 - said[wrong]
    return ValidationAnswers(labels, said, confidence, 2)


HEALTHY = TrainingEvidence(
    history=epochs(
        10, train_loss=[0.7 / (i + 1) for i in range(10)], validation_loss=[0.7 / (i + 1) for i in range(10)]
    ),
    steps=steps([0.7 / (1 + i / 10) for i in range(100)]),
    watched=watched(),
    first=first(),
    settings={
        **{key: value for key, value, _ in read_config().rows()},
        "training.learning_rate": 1e-3,
        "training.weight_decay": 0.01,
        "training.schedule": "one_cycle",
        "training.label_smoothing": 0.1,
        "model.dropout": 0.2,
        "model.batch_norm": False,
        "model.name": "mlp",
    },
    usual={
        "training.learning_rate": 1e-3,
        "training.weight_decay": 0.01,
        "training.schedule": "one_cycle",
        "training.epochs": 10,
        "model.dropout": 0.2,
    },
    classes=("cat", "dog"),
    counts={"train": [350, 350], "validation": [100, 100], "test": [200, 200]},
    validation=answers(),
)


def changed_first(**parts: Mapping[str, Any]) -> TrainingEvidence:
    """The healthy training with some facts of the first step changed."""
    base = first()
    return replace(HEALTHY, first={**base, **{name: {**base[name], **values} for name, values in parts.items()}})


def with_settings(**settings: Any) -> dict[str, Any]:
    return {**HEALTHY.settings, **{key.replace("__", "."): value for key, value in settings.items()}}


SHUFFLED = replace(
    HEALTHY,
    history=epochs(10, train_accuracy=0.9, validation_accuracy=0.51),
    validation=answers(error=0.49),
)
SICK: dict[str, TrainingEvidence] = {
    "bad_numbers": changed_first(inputs={"bad_examples": 3}),
    "constant_input": changed_first(inputs={"alike": 64, "varying": 0.0}),
    "wrong_input_range": replace(
        changed_first(inputs={"mean": 33.0, "std": 78.0, "lowest": 0.0, "highest": 255.0}),
        watched=watched(layers=[layer("0", activation_std=40.0), layer("1", "ReLU"), layer("2")]),
    ),
    "softmax_before_loss": changed_first(scores={"are_probabilities": True, "lie_between_0_and_1": True}),
    "eval_mode": changed_first(resting={"count": 2, "names": ["2 (Dropout)", "3 (BatchNorm1d)"]}),
    "frozen_parameters": changed_first(parameters={"without_gradient": {"numbers": 700, "names": ["body.weight"]}}),
    "unshuffled_data": replace(HEALTHY, watched=watched(labels={"0": 64}), is_own=True),
    "leaking_data": replace(HEALTHY, leaked={"validation": 0.4}),
    "exploding_gradients": replace(HEALTHY, watched=watched(gradient_norm=1e5)),
    "rate_too_high": replace(
        HEALTHY,
        settings=with_settings(training__learning_rate=1.0),
        steps=steps([0.7, 5, 9, 20] * 10 + [3.0] * 60),
        history=epochs(10, validation_accuracy=0.5, train_accuracy=0.5),
    ),
    "strong_weight_decay": replace(
        changed_first(optimizer={"weight_decay": 10.0}),
        history=epochs(10, train_accuracy=0.6, validation_accuracy=0.6),
        watched=[
            {**row, "layers": [layer("0", weight_norm=10.0 / (1 + 9 * i)), layer("1", weight_norm=10.0 / (1 + 9 * i))]}
            for i, row in enumerate(watched())
        ],
    ),
    "dead_units": replace(HEALTHY, watched=watched(layers=[layer("0"), layer("1", "ReLU", dead_share=0.97)])),
    "vanishing_gradients": replace(
        HEALTHY, watched=watched(layers=[layer("0", gradient_norm=1e-7), layer("1"), layer("2")])
    ),
    "rate_too_low": replace(
        HEALTHY,
        settings=with_settings(training__learning_rate=1e-6),
        steps=steps([0.7 - i / 5000 for i in range(100)]),
        history=epochs(10, validation_accuracy=0.55, train_accuracy=0.55),
    ),
    "exploding_loss": replace(HEALTHY, steps=steps([0.7, 0.9, 2.0, None, None])),
    "shuffled_labels": SHUFFLED,
    "noisy_labels": replace(
        HEALTHY,
        history=epochs(10, train_accuracy=0.75, validation_accuracy=0.75),
        validation=ValidationAnswers(
            np.arange(400) % 2,
            (np.arange(400) % 2) ^ (np.random.default_rng(1).random(400) < 0.25),
            np.random.default_rng(2).uniform(0.5, 1, 400),
            2,
        ),
    ),
    "imbalance": replace(
        HEALTHY,
        counts={"train": [660, 40], "validation": [94, 6]},
        validation=ValidationAnswers(np.repeat([0, 1], [94, 6]), np.repeat([0, 1], [98, 2]), np.full(100, 0.9), 2),
    ),
    "class_collapse": replace(
        HEALTHY,
        validation=ValidationAnswers(np.arange(200) % 2, np.zeros(200, dtype=int), np.full(200, 0.6), 2),
    ),
    "overfitting": replace(
        HEALTHY,
        history=epochs(4, train_accuracy=1.0, validation_accuracy=0.7, validation_loss=[0.6, 0.5, 0.7, 0.9]),
    ),
    "underfitting": replace(
        HEALTHY,
        history=epochs(
            10, train_accuracy=0.62, validation_accuracy=0.61, train_loss=[0.7 - 0.03 * i for i in range(10)]
        ),
    ),
    "noisy_validation": replace(
        HEALTHY, counts={"train": [350, 350], "validation": [6, 6]}, validation=answers(12, 1 / 12)
    ),
    "plateau": replace(
        HEALTHY,
        history=epochs(10, train_loss=[0.7, 0.5, *[0.4] * 8], train_accuracy=0.8, validation_accuracy=0.8),
        settings=with_settings(training__schedule="constant"),
    ),
    "slow_loading": replace(
        HEALTHY, watched=watched(milliseconds={"loading": 80.0, "forward": 5.0, "backward": 5.0, "update": 1.0})
    ),
    "cannot_overfit": TrainingEvidence(
        overfit={
            "reached": False,
            "ran_out": False,
            "examples": 32,
            "steps": 300,
            "losses": [0.7, 0.69, None],
            "accuracies": [0.5, 0.5],
            "stop_reason": "300 steps done",
        }
    ),
    "loss_does_not_move": replace(
        HEALTHY,
        steps=steps([0.7] * 100),
        history=epochs(10, train_accuracy=0.5, validation_accuracy=0.5),
        validation=answers(error=0.5),
    ),
}


def test_every_disease_has_numbers_of_its_own_here() -> None:
    assert list(SICK) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_disease_is_silent_where_nothing_is_known(name: str) -> None:
    assert look(name, TrainingEvidence()) is None


@pytest.mark.parametrize("name", NAMES)
def test_disease_is_silent_on_a_healthy_training(name: str) -> None:
    assert look(name, HEALTHY) is None


@pytest.mark.parametrize("name", NAMES)
def test_disease_speaks_on_its_sick_training(name: str) -> None:
    found = look(name, SICK[name])
    assert found is not None
    assert found.disease == name
    assert found.level == "high"


@pytest.mark.parametrize("name", NAMES)
def test_sick_training_has_its_disease_among_the_first_three(name: str) -> None:
    assert name in [found.disease for found in examine(SICK[name])[:3]]


@pytest.mark.parametrize("name", NAMES)
def test_diagnosis_can_be_written_and_read_by_people(name: str) -> None:
    found = look(name, SICK[name])
    assert found is not None
    assert 0 <= found.confidence <= 1
    assert not found.sentence.endswith(".")
    assert not found.cure.advice.endswith(".")
    assert found.evidence
    assert all(isinstance(what, str) and isinstance(value, str) for what, value in found.evidence)
    assert "nan" not in json.dumps(found.to_json()).lower().replace("nan or infinite", "")


@pytest.mark.parametrize("name", NAMES)
def test_cure_names_settings_and_commands_that_exist(name: str) -> None:
    found = look(name, SICK[name])
    assert found is not None
    read_config(settings=dict(found.cure.settings))
    if found.cure.command:
        assert found.cure.command.split()[0] in COMMANDS


@pytest.mark.parametrize("name", NAMES)
def test_no_missing_number_makes_a_disease_fail(name: str) -> None:
    """Runs that failed early, were made by older versions, or have layers without gradients."""
    rng = random.Random(name)
    for _ in range(40):
        base = rng.choice([HEALTHY, *SICK.values()])
        values = {key: value for key, value in vars(base).items() if key in TrainingEvidence.__dataclass_fields__}
        for key in rng.sample(sorted(values), rng.randint(1, 6)):
            values[key] = TrainingEvidence.__dataclass_fields__[key].default
            if key in ("first", "settings", "usual", "counts", "sizes", "leaked", "overfit", "range_test"):
                values[key] = {}
        if values["watched"] and rng.random() < 0.5:
            values["watched"] = [
                {**row, "gradient_norm": None, "layers": [{**each, "gradient_norm": None} for each in row["layers"]]}
                for row in values["watched"]
            ]
        if values["history"] and rng.random() < 0.5:
            values["history"] = [
                {**row, "train_accuracy": None, "validation_accuracy": None} for row in values["history"]
            ]
        look(name, TrainingEvidence(**values))


def test_sure_findings_come_first_and_causes_before_what_they_cause() -> None:
    found = [Diagnosis(name, "", (), confidence, Cure("")) for name, confidence in (("a", 0.6), ("b", 0.8), ("c", 0.9))]
    assert [one.disease for one in surest_first(found)] == ["b", "c", "a"]
    assert NAMES.index("rate_too_high") < NAMES.index("exploding_loss") < NAMES.index("loss_does_not_move")
    assert NAMES.index("imbalance") < NAMES.index("class_collapse")


# The limits of single diseases


def test_inputs_from_0_to_1_are_no_finding() -> None:
    assert look("wrong_input_range", changed_first(inputs={"mean": 0.13, "std": 0.31})) is None


def test_inputs_divided_by_255_twice_are_found() -> None:
    evidence = changed_first(inputs={"mean": 0.0005, "std": 0.0012})
    found = look("wrong_input_range", replace(evidence, watched=watched(layers=[layer("0", activation_std=0.05)])))
    assert found is not None
    assert "too small" in found.sentence


def test_probabilities_under_a_loss_that_wants_them_are_no_finding() -> None:
    values = {"are_probabilities": True, "lie_between_0_and_1": True, "is_cross_entropy": False}
    assert look("softmax_before_loss", changed_first(scores=values)) is None


def test_a_few_resting_layers_are_less_sure_than_all() -> None:
    found = look("eval_mode", changed_first(resting={"of": 9, "count": 3, "names": ["a"]}))
    assert found is not None
    assert found.level == "medium"


def test_a_few_frozen_parameters_are_less_sure_than_most() -> None:
    found = look("frozen_parameters", changed_first(parameters={"frozen": {"numbers": 100, "names": ["a"]}}))
    assert found is not None
    assert found.level == "medium"


def test_gradients_that_are_zero_in_every_look_are_named_by_layer() -> None:
    layers = [layer("0"), layer("1", gradient_norm=0.0), layer("2")]
    found = look("frozen_parameters", replace(HEALTHY, watched=watched(layers=layers)))
    assert found is not None
    assert "1 of 3 layers" in found.sentence


def test_zero_gradients_behind_dead_units_are_not_laid_to_freezing() -> None:
    layers = [layer("0", gradient_norm=0.0), layer("1", "ReLU", dead_share=1.0), layer("2"), layer("3")]
    assert look("frozen_parameters", replace(HEALTHY, watched=watched(layers=layers))) is None


def test_batches_of_a_rare_class_data_set_are_no_sorted_ones() -> None:
    labels = {"0": 63, "1": 1}
    evidence = replace(HEALTHY, watched=watched(labels=labels), counts={"train": [6300, 100]}, is_own=True)
    assert look("unshuffled_data", evidence) is None


def test_rate_is_cured_by_a_tenth_where_danlu_knows_no_other() -> None:
    sick = SICK["rate_too_high"]
    evidence = replace(
        sick, usual={}, watched=watched(layers=[layer("0", update_ratio=0.5), layer("1", update_ratio=0.4)])
    )
    found = look("rate_too_high", evidence)
    assert found is not None
    assert found.cure.settings == {"training.learning_rate": 0.1}


def test_fast_rate_of_a_training_that_goes_well_is_no_finding() -> None:
    evidence = replace(HEALTHY, settings=with_settings(training__learning_rate=0.05))
    assert look("rate_too_high", evidence) is None


def test_balanced_training_is_not_told_to_balance() -> None:
    evidence = replace(SICK["imbalance"], settings=with_settings(training__class_weights="balanced"))
    assert look("imbalance", evidence) is None


def test_rare_class_that_is_recognised_is_less_sure() -> None:
    labels = np.repeat([0, 1], [94, 6])
    evidence = replace(SICK["imbalance"], validation=ValidationAnswers(labels, labels, np.full(100, 0.9), 2))
    found = look("imbalance", evidence)
    assert found is not None
    assert found.level == "medium"


def test_labels_are_not_suspected_where_unsure_answers_hold_the_errors() -> None:
    evidence = replace(HEALTHY, validation=answers(400, 0.25), history=epochs(10, train_accuracy=0.8))
    assert look("noisy_labels", evidence) is None


def test_short_training_is_told_to_train_longer() -> None:
    evidence = replace(HEALTHY, history=epochs(1, train_accuracy=0.4, validation_accuracy=0.7))
    found = look("underfitting", evidence)
    assert found is not None
    assert found.cure.settings == {"training.epochs": 10}


def test_small_model_is_given_back_its_usual_widths() -> None:
    evidence = replace(
        SICK["underfitting"],
        settings=with_settings(model__widths=[2]),
        usual={**HEALTHY.usual, "model.widths": [256, 128]},
    )
    found = look("underfitting", evidence)
    assert found is not None
    assert found.cure.settings == {"model.widths": [256, 128]}


def test_validation_part_the_data_states_is_not_drawn_anew() -> None:
    found = look("noisy_validation", replace(SICK["noisy_validation"], states_parts=True))
    assert found is not None
    assert found.cure.settings == {}


def test_loading_of_a_few_milliseconds_that_adds_up_to_nothing_is_no_finding() -> None:
    taken = {"loading": 2.0, "forward": 0.3, "backward": 0.3, "update": 0.1}
    assert look("slow_loading", replace(HEALTHY, watched=watched(milliseconds=taken))) is None


def test_evidence_is_rows_of_plain_data() -> None:
    json.dumps(asdict(replace(HEALTHY, validation=None)))


def test_rate_far_above_the_usual_is_named_where_all_was_lost_again() -> None:
    """Learnt well at first, so that the best epoch tells nothing."""
    evidence = replace(
        HEALTHY,
        settings=with_settings(training__learning_rate=0.1),
        steps=steps([0.7, *[0.2] * 40, *[0.69] * 60]),
        history=epochs(10, train_accuracy=[0.9] * 5 + [0.5] * 5, validation_accuracy=[0.93] * 5 + [0.5] * 5),
    )
    found = look("rate_too_high", evidence)
    assert found is not None
    assert found.level == "high"
    assert "93.0 % had been reached" in found.sentence
    assert found.cure.settings == {"training.learning_rate": "auto"}


def test_step_of_an_adaptive_optimizer_is_too_long_for_any_model_from_100_times_the_usual() -> None:
    at_chance = epochs(10, validation_accuracy=0.5, train_accuracy=0.5)
    named = {"name": "AdamW", "learning_rate": 2.0}
    evidence = replace(changed_first(optimizer=named), usual={}, is_own=True, history=at_chance)
    found = look("rate_too_high", evidence)
    assert found is not None
    assert "usual for this optimizer" in found.sentence
    near = {"name": "AdamW", "learning_rate": 0.05}
    assert look("rate_too_high", replace(evidence, first=changed_first(optimizer=near).first)) is None


def test_rate_far_below_the_usual_is_named_where_much_was_learnt_all_the_same() -> None:
    evidence = replace(
        HEALTHY,
        settings=with_settings(training__learning_rate=1e-5),
        steps=steps([0.7 - i / 400 for i in range(100)]),
        history=epochs(10, train_accuracy=0.8, validation_accuracy=0.82),
    )
    found = look("rate_too_low", evidence)
    assert found is not None
    assert found.cure.settings == {"training.learning_rate": "auto"}


def test_rate_is_not_called_low_after_the_loss_has_leapt() -> None:
    """Units that a leap has killed change as little as those of a low rate."""
    rows = watched(layers=[layer("0", update_ratio=1e-7), layer("1", "ReLU"), layer("2", update_ratio=1e-7)])
    evidence = replace(SICK["rate_too_low"], usual={}, watched=rows, steps=steps([0.7, 30, *[20.0] * 20, *[0.69] * 80]))
    assert look("rate_too_low", evidence) is None


def test_half_of_the_units_dead_in_a_training_that_goes_well_is_less_sure() -> None:
    rows = watched(layers=[layer("0"), layer("1", "ReLU", dead_share=0.6), layer("2")])
    found = look("dead_units", replace(HEALTHY, watched=rows))
    assert found is not None
    assert found.level == "medium"


def test_units_that_died_on_the_way_are_laid_to_the_rate_and_others_to_the_first_weights() -> None:
    alive, dead = (watched(layers=[layer("0"), layer("1", "ReLU", dead_share=share)]) for share in (0.0, 0.97))
    died = look("dead_units", replace(HEALTHY, watched=[alive[0], *dead[1:]]))
    born = look("dead_units", replace(HEALTHY, watched=dead))
    assert died is not None
    assert born is not None
    assert "learning rate, which killed them" in died.cure.advice
    assert "first weights" in born.cure.advice


def test_own_training_that_failed_before_it_was_asked_is_not_at_chance() -> None:
    evidence = replace(HEALTHY, validation=None, counts={}, sizes={"train": 700, "validation": 200}, is_own=True)
    assert not evidence.learns_nothing
    assert look("shuffled_labels", evidence) is None
    assert not replace(evidence, sizes={}).learns_nothing


def test_regression_is_not_judged_by_the_chance_of_classes() -> None:
    facts = {**first(), "scores": {"loss": 2.5e5}, "labels": {"kind": "numbers"}}
    rows = epochs(10, train_accuracy=None, validation_accuracy=None)
    evidence = replace(
        HEALTHY,
        first=facts,
        history=rows,
        validation=None,
        counts={},
        steps=steps([2.5e5 / (i + 1) for i in range(99)]),
    )
    assert [found for found in examine(evidence) if found.level == "high"] == []


def test_large_gradients_of_large_targets_are_less_sure() -> None:
    facts = {**first(), "scores": {"loss": 2.5e5}}
    rows = epochs(10, train_accuracy=None, validation_accuracy=None)
    found = look("exploding_gradients", replace(SICK["exploding_gradients"], first=facts, history=rows))
    assert found is not None
    assert found.level == "medium"
    assert "scale the targets" in found.cure.advice


def test_gradients_of_a_loss_that_is_no_number_are_not_called_exploding() -> None:
    facts = {**first(), "scores": {**first()["scores"], "loss": None}}
    evidence = replace(HEALTHY, first=facts, steps=steps([None] * 3), watched=watched(gradient_norm=None))
    assert look("exploding_gradients", evidence) is None


def test_loss_that_is_suddenly_no_number_is_not_laid_to_the_rate() -> None:
    evidence = replace(HEALTHY, steps=steps([*[0.7 / (1 + i / 10) for i in range(40)], None]))
    found = look("exploding_loss", evidence)
    assert found is not None
    assert "had not grown" in found.sentence
    assert "augmentation" in found.cure.advice
    assert found.cure.settings == {}
    assert look("rate_too_high", evidence) is None


def test_loss_of_classes_below_0_is_found() -> None:
    found = look("exploding_loss", replace(HEALTHY, steps=steps([-0.7 * i for i in range(100)])))
    assert found is not None
    assert "below 0" in found.sentence


def test_validation_loss_that_is_never_a_number_is_laid_to_its_inputs() -> None:
    found = look("bad_numbers", replace(HEALTHY, history=epochs(5, validation_loss=math.nan)))
    assert found is not None
    assert "validation inputs" in found.sentence


def test_scores_that_only_look_squeezed_are_cleared_by_a_loss_below_what_is_then_possible() -> None:
    values = {"lie_between_0_and_1": True}
    assert look("softmax_before_loss", changed_first(scores=values)) is None
    high = replace(changed_first(scores=values), steps=steps([0.7] * 100))
    assert look("softmax_before_loss", high) is not None


def test_sigmoid_before_a_binary_loss_that_takes_it_itself_is_found() -> None:
    facts = {**first(), "scores": {"loss": 0.73, "is_binary_cross_entropy": True, "lie_between_0_and_1": True}}
    found = look("softmax_before_loss", replace(HEALTHY, first=facts, steps=steps([0.7] * 100)))
    assert found is not None
    assert "BCEWithLogitsLoss" in found.cure.advice


def test_layers_that_are_never_called_do_no_harm_and_are_less_sure() -> None:
    spare = layer("4", gradient_norm=None, activation_mean=None, parameters=700)
    unused = changed_first(parameters={"without_gradient": {"numbers": 700, "names": ["4.weight"]}})
    found = look("frozen_parameters", replace(unused, watched=watched(layers=[layer("0"), layer("2"), spare])))
    assert found is not None
    assert found.level == "medium"
    assert "never calls" in found.sentence


def test_backbone_frozen_on_purpose_is_less_sure_where_the_result_is_good() -> None:
    frozen = changed_first(parameters={"frozen": {"numbers": 900, "names": ["body.weight"]}})
    good, bad = look("frozen_parameters", frozen), None
    bad = look("frozen_parameters", replace(frozen, history=epochs(10, validation_accuracy=0.6)))
    assert good is not None
    assert bad is not None
    assert (good.level, bad.level) == ("medium", "high")


def test_weights_that_never_change_although_gradients_are_there_are_found() -> None:
    rows = watched(layers=[layer("0", update_ratio=0.0), layer("1", update_ratio=0.0)])
    found = look("frozen_parameters", replace(HEALTHY, watched=rows))
    assert found is not None
    assert "no weight changes" in found.sentence


def test_model_that_scales_its_inputs_itself_is_no_finding() -> None:
    evidence = changed_first(inputs={"mean": 33.0, "std": 78.0, "lowest": 0.0, "highest": 255.0})
    assert look("wrong_input_range", evidence) is None
    norm = watched(layers=[layer("0", "BatchNorm1d", activation_std=9.0), layer("1")])
    assert look("wrong_input_range", replace(evidence, watched=norm)) is None


def test_small_batches_of_one_class_are_found_and_chance_in_them_is_not() -> None:
    rng = np.random.default_rng(0)
    mixed = [watched(1, labels={"0": int(n), "1": 4 - int(n)})[0] for n in rng.binomial(4, 0.5, 20)]
    alike = [watched(1, labels={str(i % 2): 4})[0] for i in range(20)]
    assert look("unshuffled_data", replace(HEALTHY, watched=mixed, is_own=True)) is None
    assert look("unshuffled_data", replace(HEALTHY, watched=alike, is_own=True)) is not None


def test_batches_that_danlu_makes_are_not_called_unshuffled() -> None:
    """Texts of like length stand together, and length goes with the class."""
    assert look("unshuffled_data", replace(SICK["unshuffled_data"], is_own=False)) is None


def test_train_part_with_other_shares_than_validation_is_not_called_sorted() -> None:
    rows = watched(labels={"0": 60, "1": 4})
    assert look("unshuffled_data", replace(HEALTHY, watched=rows, counts={}, is_own=True)) is None


def test_hard_task_whose_surer_half_is_hardly_better_is_not_called_noisy() -> None:
    """The surest fifth is right all the same."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    confidence = rng.uniform(0.5, 1, 400)
    wrong = rng.random(400) < 0.35
    wrong[np.argsort(-confidence)[:80]] = rng.random(80) < 0.1
    told = ValidationAnswers(labels, labels ^ wrong, confidence, 2)
    evidence = replace(HEALTHY, validation=told, history=epochs(10, train_accuracy=0.75, validation_accuracy=0.7))
    assert look("noisy_labels", evidence) is None


def test_too_many_layers_are_told_to_become_fewer() -> None:
    evidence = replace(
        SICK["underfitting"],
        settings=with_settings(model__widths=[64] * 30),
        usual={**HEALTHY.usual, "model.widths": [256, 128]},
    )
    found = look("underfitting", evidence)
    assert found is not None
    assert "fewer layers" in found.cure.advice
    assert found.cure.settings == {"model.widths": [256, 128]}


def test_training_that_was_interrupted_is_told_to_go_on() -> None:
    found = look("underfitting", replace(SICK["underfitting"], is_unfinished=True))
    assert found is not None
    assert (found.level, found.cure.command) == ("medium", "train --resume RUN")
