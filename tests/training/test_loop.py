"""The training loop: when it validates, ends, keeps weights and resumes, with a linear model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from openlum.errors import InputError
from openlum.training import checkpoint
from openlum.training.loop import BatchLoss, DivergedError, LoopSettings, TrainingLoop, Validation
from openlum.training.schedule import warmup_cosine_rate

PEAK = 0.05


def epoch_length(epoch: int) -> int:
    """Return the number of batches of an epoch; epochs differ, as with a shuffled log."""
    return 4 + epoch % 2


class Source:
    """A source of batches with a position, like `TrainingLoader`."""

    epoch, batch = 0, 0

    def state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state(self, state: dict[str, int]) -> None:
        self.epoch, self.batch = state["epoch"], state["batch"]

    def epoch_batches(self) -> Iterator[int]:
        while self.batch < epoch_length(self.epoch):
            self.batch += 1
            yield 10 * self.epoch + self.batch
        self.epoch, self.batch = self.epoch + 1, 0


class LinearTraining(TrainingLoop):
    """A linear regression.

    Args:
        directory: of the training.
        scores: scores of the validations in order; by default the validation loss.
        nothing_to_learn: batches without a loss.
        limits: of the loop.
    """

    def __init__(
        self,
        directory: Path,
        scores: list[float | None] | None = None,
        nothing_to_learn: tuple[int, ...] = (),
        **limits: Any,
    ) -> None:
        torch.manual_seed(0)
        self.scores, self.nothing_to_learn = scores, nothing_to_learn
        self.source, self.rates, self.validated, self.losses = Source(), [], [], []
        self.weights: list[torch.Tensor] = []
        defaults = {
            "epochs": 3,
            "patience": 9,
            "higher_is_better": False,
            "remedy": "lower the key",
            "checkpoint_steps": 2,
        }
        model = nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(model.parameters(), PEAK)
        super().__init__(model, optimizer, LoopSettings(**defaults | limits), directory, self.source)

    def batches(self, epoch: int) -> Iterator[int]:
        assert epoch == self.source.epoch
        return self.source.epoch_batches()

    def loss(self, batch: int) -> BatchLoss:
        x = torch.randn(8, 2, generator=torch.Generator().manual_seed(batch))
        error = (self.model(x).squeeze(1) - x.sum(1)).square().mean()
        return BatchLoss(None if batch in self.nothing_to_learn else error, 8, {"error": error})

    def validate(self) -> Validation:
        x = torch.randn(50, 2, generator=torch.Generator().manual_seed(99))
        with torch.no_grad():
            error = float((self.model(x).squeeze(1) - x.sum(1)).square().mean())
        return Validation(error if self.scores is None else self.scores[len(self.validated)], {"error": error})

    def rate(self, position: int) -> float:
        return 0.5**position if self.rate_by_epoch else warmup_cosine_rate(position, 3, 12)

    def on_step(self, metrics: dict[str, float]) -> None:
        self.rates.append(metrics["lr"])

    def on_validation(self, validation: Validation, is_best: bool) -> None:
        self.validated.append(self.progress.step)
        self.losses.append(self.mean_loss)
        self.weights.append(self.model.weight.detach().clone())


class TrainingWithRateByEpoch(LinearTraining):
    rate_by_epoch = True


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (LinearTraining, {}),
        (LinearTraining, {"steps": 6, "validation_steps": 4}),
        (LinearTraining, {"validation_steps": 3, "epochs": 2}),
        (LinearTraining, {"patience": 1, "validates_first": True, "scores": [4.0, 3.0, 3.5, 1.0]}),
        (TrainingWithRateByEpoch, {}),
    ],
)
@pytest.mark.parametrize("checkpoint_steps", [1, 3, 100])
def test_a_resumed_training_equals_an_uninterrupted_one(
    kind: type[LinearTraining], ends: dict[str, Any], checkpoint_steps: int, tmp_path: Path
) -> None:
    """Weights, learning rates, progress and validations are equal at every possible interruption."""
    limits = ends | {"checkpoint_steps": checkpoint_steps}
    whole = kind(tmp_path / "whole", **limits)
    whole.run()
    for interruption in range(1, whole.progress.step + 1):
        directory = tmp_path / str(interruption)
        kind(directory, **limits).run(until=interruption)
        resumed = kind(directory, **limits)
        resumed.resume()
        first_step = resumed.progress.step
        assert max(0, interruption - checkpoint_steps) <= first_step < interruption or checkpoint_steps == 100
        if "scores" in limits:  # the validations before the checkpoint are not repeated
            resumed.scores = limits["scores"][sum(step <= first_step for step in whole.validated) :]
        resumed.run()
        assert all(tensor.equal(resumed.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items())
        assert resumed.rates == whole.rates[first_step:]
        assert resumed.progress.best == whole.progress.best
        assert resumed.progress.without_gain == whole.progress.without_gain
        assert resumed.losses == whole.losses[len(whole.losses) - len(resumed.losses) :]


@pytest.mark.parametrize(
    ("limits", "validated"),
    [
        ({}, [4, 9, 13]),
        ({"validates_first": True, "epochs": 1}, [0, 4]),
        ({"validation_steps": 3}, [3, 6, 9, 12, 13]),
        ({"validation_steps": 4, "epochs": 1}, [4]),
        ({"steps": 6}, [4, 6]),
        ({"steps": 9}, [4, 9]),
        ({"steps": 6, "validation_steps": 4}, [4, 6]),
        ({"steps": 100, "epochs": 2}, [4, 9]),
    ],
)
def test_the_model_is_validated_at_intervals_and_at_the_end(
    limits: dict[str, Any], validated: list[int], tmp_path: Path
) -> None:
    training = LinearTraining(tmp_path, **limits)
    training.run()
    assert training.validated == validated
    assert training.progress.step == validated[-1]


@pytest.mark.parametrize("checkpoint_steps", [None, 2])
@pytest.mark.parametrize(
    ("higher_is_better", "scores", "best"),
    [
        (False, [3.0, 1.0, 2.0, 1.0, 0.5], 1),  # an equal score is no gain
        (True, [3.0, 5.0, 2.0, 5.0, 6.0], 1),
        (True, [3.0, 1.0, 2.0, 5.0, 6.0], 0),
        (False, [None, None, None, None], 3),
    ],
)
def test_the_best_weights_are_loaded_at_the_end(
    higher_is_better: bool, scores: list[float | None], best: int, checkpoint_steps: int | None, tmp_path: Path
) -> None:
    """The training ends two validations after the best one."""
    training = LinearTraining(
        tmp_path,
        scores,
        epochs=4,
        patience=2,
        higher_is_better=higher_is_better,
        checkpoint_steps=checkpoint_steps,
    )
    training.run()
    assert len(training.validated) == min(best + 3, 4)
    assert training.model.weight.equal(training.weights[best])
    assert training.progress.best.score == scores[best]
    assert training.progress.best.step == training.validated[best]
    assert not training.model.training
    assert len(list(tmp_path.glob("*best*"))) == 1
    assert len(list(tmp_path.iterdir())) == 1 + bool(checkpoint_steps)


def test_best_weights_are_written_only_when_they_are_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write_tensors = [], checkpoint.write_tensors

    def record(tensors: Any, file: Path) -> None:
        written.append(file.name)
        write_tensors(tensors, file)

    monkeypatch.setattr(checkpoint, "write_tensors", record)
    LinearTraining(tmp_path, [2.0, 1.0, 3.0], checkpoint_steps=1).run()
    assert [name for name in written if "best" in name] == [".best-step-4.safetensors", ".best-step-9.safetensors"]
    assert written.count("model.safetensors") > 10


def test_a_training_killed_between_its_best_weights_and_the_checkpoint_resumes(tmp_path: Path) -> None:
    """The older checkpoint names the older weights, which are still there."""
    whole = LinearTraining(tmp_path / "whole")
    whole.run()
    killed = LinearTraining(tmp_path / "killed", checkpoint_steps=100)

    def die(validation: Validation, is_best: bool) -> None:
        if killed.progress.epoch == 2:
            assert is_best
            raise KeyboardInterrupt

    killed.on_validation = die
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    assert len(list((tmp_path / "killed").glob("best-*"))) == 2
    resumed = LinearTraining(tmp_path / "killed", checkpoint_steps=100)
    resumed.resume()
    assert resumed.progress.best.step == resumed.progress.step == 4
    resumed.run()
    assert resumed.model.weight.equal(whole.model.weight)
    assert len(list((tmp_path / "killed").glob("*best-*"))) == 1


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_damaged_best_weights_are_refused(damage: str, tmp_path: Path) -> None:
    training = LinearTraining(tmp_path)
    training.run()
    (file,) = tmp_path.glob("best-*")
    file.unlink() if damage == "deleted" else file.write_bytes(file.read_bytes()[:-1] + b"x")
    for use in (training.load_best, LinearTraining(tmp_path).resume):
        with pytest.raises(InputError, match=rf"{file.name}: .*delete .* to train from the start"):
            use()


@pytest.mark.parametrize("limits", [{"epochs": 1}, {}, {"steps": 6}, {"patience": 1, "scores": [1.0, 2.0]}])
def test_the_expected_number_of_steps_is_right_at_the_end(limits: dict[str, Any], tmp_path: Path) -> None:
    """It never is below the current step; the first epoch has 4 steps, others 5."""
    training = LinearTraining(tmp_path, **limits)
    assert training.expected_steps(4) == {"steps": 6}.get(next(iter(limits), ""), 4 * training.limits.epochs)
    expected = []
    training.on_step = lambda metrics: expected.append(training.expected_steps(4))
    training.run()
    assert all(total >= step for step, total in enumerate(expected, 1))
    assert training.expected_steps(4) == training.progress.step


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_training_that_diverges_is_refused_and_its_best_weights_can_be_loaded(score: float, tmp_path: Path) -> None:
    training = LinearTraining(tmp_path, [1.0, score])
    with pytest.raises(DivergedError, match=f"the validation score is {score} at step 9; lower the key"):
        training.run()
    training.load_best()
    assert training.model.weight.equal(training.weights[0])
    training = LinearTraining(tmp_path / "loss")
    nn.init.constant_(training.model.weight, score)
    with pytest.raises(DivergedError, match=r"the training loss is (nan|inf) at step 0; lower the key"):
        training.run()


def test_the_learning_rate_is_exactly_the_peak_times_the_rate(tmp_path: Path) -> None:
    training = LinearTraining(tmp_path / "steps")
    training.run()
    assert training.rates == [PEAK * training.rate(step) for step in range(13)]
    training = TrainingWithRateByEpoch(tmp_path / "epochs")
    training.run()
    assert training.rates == [PEAK] * 4 + [PEAK / 2] * 5 + [PEAK / 4] * 4


def test_a_batch_without_a_loss_changes_no_weight(tmp_path: Path) -> None:
    training = LinearTraining(tmp_path, nothing_to_learn=(1, 3))
    weights = []
    for batch in (2, 1, 3, 2):
        metrics = training.step(batch)
        assert ("loss" in metrics) == ("error" in metrics) == (batch == 2)
        weights.append(training.model.weight.detach().clone())
    assert weights[0].equal(weights[1])
    assert weights[1].equal(weights[2])
    assert not weights[2].equal(weights[3])
    assert training.progress.step == 4
    assert training.progress.size == 32
    assert training.progress.loss_size == 16


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    for clip in (None, 1e-3):
        training = LinearTraining(tmp_path / str(clip), gradient_clip=clip)
        training.step(1)
        norm = float(torch.cat([p.grad.flatten() for p in training.model.parameters()]).norm())
        assert norm == pytest.approx(1e-3, rel=1e-4) if clip else norm > 0.1
