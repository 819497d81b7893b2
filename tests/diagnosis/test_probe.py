"""`danlu probe`: what is tried before training, what is told, and that nothing is left of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import danlu
from browsing import CHROMIUM, chromium, opened
from danlu.base.config import read_config
from danlu.base.errors import ConfigError, DataError, ModelError
from danlu.base.runs import list_runs
from danlu.diagnosis.probe import Probed, judged, probe_rows
from danlu.models import MODELS
from danlu.training.range_test import RangeTest, Reading
from pictures import write_pictures, write_reviews

QUICK = {"training.threads": 1, "training.channels_last": False}
MLP = {**QUICK, "model.name": "mlp"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probed]:
    """The digits with a rate far too high, probed once."""
    home = tmp_path_factory.mktemp("probe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DANLU_CACHE", str(home / ".cache"))
        patch.setenv("DANLU_RUNS", str(home / "runs"))
        yield danlu.probe("digits", {**MLP, "training.learning_rate": 3.0})


def names(probed: Probed) -> list[str]:
    return [found.diagnosis.disease for found in probed.findings]


def test_batch_is_learnt_and_a_rate_suggested(digits: Probed) -> None:
    assert digits.overfit.reached
    assert digits.suggested_rate is not None
    assert 1e-3 < digits.suggested_rate < 0.03


def test_rate_that_is_too_high_is_found_with_its_evidence(digits: Probed) -> None:
    (found,) = digits.findings
    told = dict(found.diagnosis.evidence)
    assert found.diagnosis.disease == "rate_too_high"
    assert told["learning rate"] == "3"
    assert float(told["the loss blows up at"]) < 3.0
    assert found.command == digits.command


def test_command_trains_the_same_with_the_suggested_rate(digits: Probed) -> None:
    assert digits.command is not None
    program, verb, data, *words = shlex.split(digits.command)
    assert (program, verb, data) == ("danlu", "train", "digits")
    settings = read_config(words=words).settings
    assert settings.training.learning_rate == digits.suggested_rate
    assert (settings.model.name, settings.training.threads) == ("mlp", 1)
    assert settings.training.channels_last is False


def test_json_has_what_the_result_has(digits: Probed) -> None:
    assert digits.page is not None
    told = json.loads((digits.page.parent / "probe.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(digits.to_json()))
    assert set(told) == {
        "format",
        "name",
        "model",
        "configured",
        "overfit",
        "range_test",
        "suggested_rate",
        "first_step",
        "findings",
        "command",
        "seconds",
    }
    assert set(told["seconds"]) == {"data", "machine", "first_step", "overfit", "range_test"}
    assert len(told["range_test"]["rates"]) == len(told["range_test"]["losses"])


def test_no_run_is_made_and_no_weights_are_kept(digits: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert digits.page is not None
    home = digits.page.parent.parent.parent
    monkeypatch.setenv("DANLU_RUNS", str(home))
    assert list_runs() == []
    files = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    assert files == {"probes/digits/probe.html", "probes/digits/probe.json"}


def test_probed_is_faster_than_half_a_minute(digits: Probed) -> None:
    assert sum(digits.seconds.values()) < 30


def test_rate_that_is_too_low_is_found() -> None:
    probed = danlu.probe("digits", {**MLP, "training.learning_rate": 1e-6})
    assert names(probed) == ["rate_too_low"]
    assert probed.command is not None


def test_rate_near_the_suggested_one_is_fine() -> None:
    probed = danlu.probe("digits", {**MLP, "training.learning_rate": 0.005})
    assert (probed.findings, probed.command, probed.is_near) == ((), None, True)


def test_label_smoothing_and_augmentation_do_not_keep_a_batch_from_being_learnt(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "p")
    hard = {"training.label_smoothing": 0.5, "augmentation.erasing": 1.0, "augmentation.crop": 4, "model.dropout": 0.9}
    assert danlu.probe(pictures, {**QUICK, **hard, "model.name": "simple_cnn"}).overfit.reached


def test_number_of_threads_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []

    def fails(*words: Any, **options: Any) -> None:
        seen.append(torch.get_num_threads())
        raise ModelError("here it ends")

    monkeypatch.setattr("danlu.diagnosis.probe._probe", fails)
    with pytest.raises(ModelError, match="here it ends"):
        danlu.probe("digits", {**MLP, "training.threads": before + 1})
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


@pytest.mark.parametrize("name", MODELS.names())
def test_every_registered_model_is_probed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danlu.training.range_test.STEPS_PER_DECADE", (7,))  # enough for so easy data
    is_image = "images" in MODELS.members[name].kinds
    data = write_pictures(tmp_path / "p") if is_image else write_reviews(tmp_path / "r.csv")
    words = ["model.buckets=500"] if name == "ngrams" else []
    probed = danlu.probe(data, {**QUICK, "model.name": name}, words=words)
    assert probed.overfit.reached
    assert probed.suggested_rate is not None
    assert "cannot_overfit" not in names(probed)


def test_gate_stops_a_probe_as_it_stops_a_training(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "p")
    (pictures / "green" / "000.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="unreadable"):
        danlu.probe(pictures, QUICK)


def pairs() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(96, 6, generator=generator)
    y = (x[:, :3] + 0.5 * torch.randn(96, 3, generator=generator)).argmax(1)
    return [(x[i : i + 32], y[i : i + 32]) for i in range(0, 96, 32)]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))


def test_own_module_loader_and_optimizer_are_probed_and_left_as_they_were() -> None:
    data = [(x, y) for batch in pairs() for x, y in zip(*batch, strict=True)]
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)  # type: ignore[arg-type]
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    weights = [parameter.clone() for parameter in model.parameters()]
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()
    probed = danlu.probe_model(model, loader, nn.CrossEntropyLoss(), optimizer)
    assert probed.overfit.reached
    assert probed.configured["learning_rate"] == 0.05
    assert probed.page is None
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    assert (dict(optimizer.state), optimizer.param_groups[0]["lr"]) == ({}, 0.05)
    assert torch.equal(state, torch.get_rng_state())
    assert numbers == np.random.get_state()[1].tolist()


def test_equal_modules_are_probed_equally() -> None:
    first, second = (danlu.probe_model(net(), pairs(), settings={"seed": 4}) for _ in range(2))
    assert first.overfit.losses == second.overfit.losses
    assert first.suggested_rate == second.suggested_rate


def test_own_module_gets_its_page_where_a_folder_is_named(tmp_path: Path) -> None:
    probed = danlu.probe_model(net(), pairs(), folder=tmp_path / "out")
    assert probed.page == tmp_path / "out" / "probe.html"
    assert "Sequential" in probed.page.read_text(encoding="utf-8")


def test_noisy_curve_is_no_finding() -> None:
    noisy = RangeTest((1e-5, 1.0), (2.3, 2.2), Reading((2.3, 2.2), sureness=3.5), 20, False, "", 0.0)
    flat = RangeTest((1e-5, 1.0), (2.3, 2.3), Reading((2.3, 2.3), sureness=1.0), 20, False, "", 0.0)
    assert (judged(noisy, 1e-3), judged(flat, 1e-3)) == ("unknown", "none learns")


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(x).relu().detach())
        return scores


def test_model_that_cannot_learn_a_batch_is_found() -> None:
    probed = danlu.probe_model(Detached(), pairs())
    assert names(probed)[0] == "frozen_parameters"
    assert "cannot_overfit" in names(probed)
    assert {what: result for what, result, _ in probe_rows(probed)}["one batch by heart"] == "NOT LEARNT"


class NoGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(x)
        return scores.detach()


def test_scores_without_a_gradient_are_a_finding_and_no_crash() -> None:
    probed = danlu.probe_model(NoGradient(), pairs())
    assert names(probed) == ["frozen_parameters", "cannot_overfit"]
    assert probed.findings[0].diagnosis.sentence.startswith("100.0 % of the parameters never change")
    assert "no parameter gets a gradient" in probed.findings[1].diagnosis.sentence
    assert probed.suggested_rate is None
    assert probed.range_test.stop_reason == "no parameter gets a gradient"


def test_loss_that_is_no_number_is_a_finding_and_valid_json(tmp_path: Path) -> None:
    def breaks(scores: Tensor, labels: Tensor) -> Tensor:
        return scores.sum() * float("nan")

    probed = danlu.probe_model(net(), pairs(), breaks, folder=tmp_path)
    told = {found.diagnosis.disease: found.diagnosis.sentence for found in probed.findings}
    assert "the loss is no longer a number" in told["cannot_overfit"]
    assert "NaN" not in (tmp_path / "probe.json").read_text(encoding="utf-8")
    assert (tmp_path / "probe.html").exists()


def test_labels_that_mean_nothing_are_told_by_a_loss_that_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danlu.training.range_test.STEPS_PER_DECADE", (20,))  # also on a busy machine
    generator = torch.Generator().manual_seed(2)
    noise = [
        (torch.randn(32, 6, generator=generator), torch.randint(0, 3, (32,), generator=generator)) for _ in range(200)
    ]
    probed = danlu.probe_model(net(), noise)
    assert names(probed) == ["loss_does_not_move"]


def test_module_without_trained_parameters_is_refused() -> None:
    with pytest.raises(ModelError, match="ReLU has no parameter that is trained"):
        danlu.probe_model(nn.ReLU(), pairs())


def test_command_line_tells_a_table_the_advice_and_the_page(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cli("probe", "digits", "model.name=mlp", "training.threads=1", "training.learning_rate=1")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["tested", "result", "numbers"]
    assert re.match(r"one step +works +inputs 64 × 1 × 8 × 8, loss [\d.]+, 50,826 of 50,826 parameters learn", lines[1])
    assert re.match(r"one batch by heart +learnt +32 examples of 10 classes, \d+ steps: loss ", lines[2])
    assert re.match(r"configured learning rate +TOO HIGH +1 \(adamw, highest of one_cycle\)", lines[3])
    assert re.match(r"suggested learning rate +0\.0\d+ +the loss falls from 0\.0", lines[4])
    assert lines[5].startswith("high    rate_too_high: at the learning rate of 1 the loss has blown up")
    assert re.fullmatch(r" +\$ danlu train digits model.name=mlp .*training.learning_rate=0\.0\d+", lines[-2])
    assert lines[-1] == "runs/probes/digits/probe.html"
    assert "probed in " in err


def test_command_line_says_that_a_rate_is_fine(cli: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = cli("probe", "digits", "model.name=mlp", "training.threads=1", "training.learning_rate=0.005")
    assert out.splitlines()[-2] == "the configured learning rate 0.005 is fine"


def test_usable_rate_far_from_the_suggested_one_is_not_called_wrong(cli: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = cli("probe", "digits", "model.name=mlp", "training.threads=1", "training.learning_rate=0.001")
    assert "found:" not in out
    assert out.splitlines()[-2].startswith("may train better: danlu train digits model.name=mlp ")


def test_command_line_prints_json(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    words = ("digits", "model.name=mlp", "training.threads=1", "--json", "--out", tmp_path / "o")
    code, out, _ = cli("probe", *words)
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "o" / "probe.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "ConfigError: no DATA given\n\nhint: `danlu probe photos/`"),
        (("model.name=mlp",), "ConfigError: `model.name=mlp` is a setting; DATA comes first"),
        (("digits", "training.learning_rat=1"), "unknown key; nearest: 'learning_rate'"),
        (("digits", "model.name=mpl"), "no model called 'mpl'; nearest: 'mlp'"),
        (("digitz",), "neither a file, a folder nor a known data set; nearest: 'digits'"),
    ],
)
def test_mistakes_are_told_without_a_traceback(
    cli: Callable[..., tuple[int, str, str]], words: tuple[str, ...], told: str
) -> None:
    code, out, err = cli("probe", *words)
    assert code in (2, 3)
    assert out == ""
    assert told in err
    assert "Traceback" not in err


def test_missing_gpu_is_an_error_before_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(Exception, match=r"`training.device=cuda`: there is none here"):
        danlu.probe("nowhere", {"training.device": "cuda"})


def test_validation_part_is_needed_as_in_a_training() -> None:
    with pytest.raises(ConfigError, match="there is no validation part"):
        danlu.probe("digits", {**MLP, "data.split": [0.8, 0.0, 0.2]})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with chromium() as started:
        yield started


@pytest.mark.parametrize("width", [360, 1200])
def test_page_fits_fetches_nothing_and_complains_of_nothing(browser: Any, digits: Probed, width: int) -> None:
    assert digits.page is not None
    shown = opened(browser, width=width).open(digits.page)
    assert not shown.is_wider_than_the_window()
    assert (shown.outside_requests, shown.complaints) == ([], [])
    assert shown.page.evaluate("document.querySelectorAll('svg').length") == 2
    shown.page.close()


def test_page_shows_the_finding_the_advice_and_the_marks(browser: Any, digits: Probed) -> None:
    assert digits.page is not None
    shown = opened(browser).open(digits.page)
    text = shown.page.evaluate("document.body.textContent")
    marks = shown.page.evaluate("[...document.querySelectorAll('svg text')].map((text) => text.textContent.trim())")
    assert digits.findings[0].diagnosis.sentence in text
    assert digits.command in text
    assert {"configured", "steepest", "valley", "smoothed"} <= set(marks)
    assert [mark for mark in marks if mark.endswith(", suggested")]
    assert not [mark for mark in marks if "mathdefault" in mark]
    shown.page.close()


def test_first_step_is_a_table_on_the_page(browser: Any, digits: Probed) -> None:
    assert digits.page is not None
    shown = opened(browser).open(digits.page)
    text = shown.page.evaluate("document.getElementById('step').textContent")
    assert "loss of guessing" in text
    assert "64 × 1 × 8 × 8" in text
    assert "50,826" in text
    shown.page.close()


def test_cure_probes_again_with_what_is_proposed(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cli(
        "probe", "digits", "model.name=mlp", "training.threads=1", "training.learning_rate=1e-6", "--cure"
    )
    assert code == 0
    assert re.search(r"with training\.learning_rate=0\.0\d+ rate_too_low is gone", out)
    assert "again, with training.learning_rate=" in err
    assert out.count("one batch by heart") == 2


def test_cure_of_nothing_is_refused(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("probe", "digits", "model.name=mlp", "training.threads=1", "--cure")
    assert code == 2
    assert "nothing was found, so there is nothing to cure" in err


def test_rate_that_danlu_chose_and_that_is_usable_is_not_talked_down() -> None:
    probed = danlu.probe("digits", MLP)
    assert probed.is_tuned
    assert (probed.is_fine, probed.command) == (True, None)
