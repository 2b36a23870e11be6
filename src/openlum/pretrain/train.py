"""Step 1, knowledge construction: the training loop.

A training is a function of its inputs: the order of the batches depends on the seed and the epoch, the random draws depend on the
seed and the step. So a checkpoint does not need the state of a random generator, and a resumed training gives the same weights as
an uninterrupted one. The events are read shard by shard (`data/loader.py`).

Shapes: U users.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor

from openlum.arguments.values import as_path, as_path_or_none, check_kind
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import fingerprint, named_failures, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.lock import locked
from openlum.console import new_console, new_progress
from openlum.data.dataset import Dataset
from openlum.data.loader import TrainingLoader
from openlum.data.packing import Spans, training_end, training_events
from openlum.data.sequences import Sequences
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings, Processor, default_device
from openlum.model.settings import TAKEN
from openlum.pretrain.card import write_card
from openlum.pretrain.checks import check_events, check_pretraining
from openlum.pretrain.initialization import build_model, load_initial_model
from openlum.pretrain.objective import Losses, Objective
from openlum.pretrain.plan import plan_for
from openlum.pretrain.score import popularity_warning, validation_score
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives
from openlum.pretrain.training_set import count_training_set
from openlum.pretrain.validation import POPULARITY, ValidationSet, validate, validation_set
from openlum.training.checkpoint import TrainingProgress, load_checkpoint, save_checkpoint
from openlum.training.memory import peak_memory_bytes
from openlum.training.schedule import cosine_rate

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_STEPS = 10
"""Training metrics are logged every time this number of steps is done."""


def pretrain(
    dataset_dir: str | Path,
    out: str | Path,
    model_settings: ModelSettings,
    settings: PretrainSettings,
    init_from: str | Path | None = None,
) -> dict[str, Any]:
    """Train a Large User Model and write `model/`.

    During the training, the directory `OUT.work` has the checkpoints, the metrics and the TensorBoard curves. An interrupted
    training resumes from there if it is started again with the same data and settings.

    Args:
        dataset_dir: from `lum prepare`.
        out: the model directory.
        model_settings: hyperparameters of the model.
        settings: of the training.
        init_from: the directory of a model whose weights the new model starts with. Keys that `model_settings` does not set have
            the value of that model.

    Returns:
        The section `pretrain` of `summary.json`.

    Raises:
        InputError: if there are no events to train on, the model `init_from` does not fit, or another process writes to `out`.
    """
    dataset_dir, out = as_path("dataset_dir", dataset_dir), as_path("out", out)
    init_from = as_path_or_none("init_from", init_from)
    check_kind("model_settings", model_settings, ModelSettings)
    check_kind("settings", settings, PretrainSettings)
    dataset = Dataset(dataset_dir)
    initial_model = None
    if init_from:
        initial_model, model_settings = load_initial_model(init_from, dataset, model_settings, settings.protocol)
    plan = plan_for(dataset, model_settings, settings)
    model_settings, settings = plan.model, plan.settings
    check_pretraining(dataset, Processor.from_dataset(dataset), model_settings, settings, out)
    console = new_console()
    console.print(str(plan), soft_wrap=True)
    inputs = {"dataset": dataset_dir} | ({"init_from": init_from} if init_from else {})
    input_fingerprint = fingerprint(step_key("pretrain", [model_settings.model_dump(), settings.model_dump()], inputs))
    work = out.resolve().with_name(out.resolve().name + ".work") / input_fingerprint
    with locked(out), named_failures(work):
        (work / "checkpoints").mkdir(parents=True, exist_ok=True)
        model = build_model(
            dataset,
            model_settings,
            settings.seed,
            settings.protocol,
            input_fingerprint,
            initial_model,
            settings.feedback_prediction_weight > 0,
        )
        model = model.to(default_device())
        trainer = Trainer(model, dataset, settings, work)
        trainer.run()
        summary = trainer.summary()
        if "warning" in summary:
            console.print(f"WARNING: {summary['warning']}", style="bold red", soft_wrap=True)
        with whole_directory(out, "model") as directory:
            model.save_pretrained(directory)
            write_card(directory, model, dataset.info, settings, summary)
            write_json(directory / "pretrain.json", summary)
            write_json(directory / "training.json", settings.model_dump())
            (directory / "metrics.jsonl").write_bytes((work / "metrics.jsonl").read_bytes())
        shutil.rmtree(work / "checkpoints")
    return summary


class Trainer:
    """The training loop with its model, optimizer and progress.

    Args:
        model: to train, on its device.
        dataset: to train on.
        settings: of the training.
        work: directory for checkpoints, `metrics.jsonl` and TensorBoard curves.
        training_end: returns the number of training events of each user, (U,); by default, all events that the protocol does not
            hold out.
    """

    def __init__(
        self,
        model: LargeUserModel,
        dataset: Dataset,
        settings: PretrainSettings,
        work: Path,
        training_end: Callable[[Sequences], np.ndarray] | None = None,
    ) -> None:
        self.model, self.dataset, self.settings, self.work = model, dataset, settings, work
        self.loader = TrainingLoader(
            dataset,
            training_end or self._training_end,
            max_events=model.config.settings.max_events,
            batch_events=settings.batch_events,
            buffer_events=settings.buffer_events,
            seed=settings.seed,
        )
        training_set = count_training_set(self.loader, model.config.items)
        self.needs_negatives = TAKEN in model.config.trained_feedback_targets
        check_events(dataset, training_set.events, training_set.users, self.needs_negatives)
        trained = torch.from_numpy(training_set.item_counts > 0).to(model.device)
        model.network.item_encoder.set_trained_items(
            model.network.item_encoder.trained_items | trained if model.config.initialised_from else trained
        )
        catalogue = model.network.item_encoder.candidates().cpu()
        self.objective = Objective(model.config, settings, training_set.item_counts / training_set.events, catalogue)
        self.validation: ValidationSet = validation_set(
            dataset, settings.protocol, model.config.settings.max_events, settings.validation_events, settings.seed
        )
        self.popularity_recall = self.validation.popularity_recall(training_set.item_counts)
        self.optimizer = _optimizer(model, settings)
        self.total_steps = settings.epochs * training_set.steps_per_epoch
        self.progress = TrainingProgress()
        self.best: dict[str, Tensor] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def run(self, until: int | None = None) -> None:
        """Train to the end. Afterwards the model has the weights with the best validation score.

        Args:
            until: stop after this step, like an interruption. The model keeps the weights of this step.
        """
        from torch.utils.tensorboard import SummaryWriter  # imported here: it takes a quarter of a second

        self._resume()
        with (
            SummaryWriter(str(self.work / "tensorboard"), purge_step=self.progress.step) as curves,
            _progress_bar() as bar,
        ):
            task = bar.add_task("pretrain", total=self.total_steps, completed=self.progress.step, note="")
            if self.model.config.initialised_from and self.progress.best_score is None:
                self._validate(curves)  # the training must have a better score than the initial model
                self._checkpoint()
            while self.progress.epoch < self.settings.epochs and self.progress.without_gain < self.settings.patience:
                for batch in self._remaining_batches():
                    losses = self._step(batch)
                    metrics = self._training_metrics(losses)
                    note = f"loss {metrics['loss']:.4f}, {metrics['tokens_per_second']:,.0f} tokens/s"
                    bar.update(task, completed=self.progress.step, note=note)
                    if self.progress.step % LOG_STEPS == 0:
                        self._log(curves, metrics)
                    if self.progress.step == until:
                        return
                    if self.progress.step % self.settings.checkpoint_steps == 0:
                        self._checkpoint()
                self.progress.epoch += 1
                loss = self._validate(curves)
                self._checkpoint()
                bar.console.print(self._epoch_message(loss), soft_wrap=True)  # also without a terminal for the bar
        self.model.load_state_dict(self.best)
        self.model.eval()

    def summary(self) -> dict[str, Any]:
        """Return the section `pretrain` of `summary.json`: size, speed and validation metrics of the training."""
        initial_model, validation = self.model.config.initialised_from, self.progress.best_validation
        warning = popularity_warning(validation)
        notes = {"initialised_from": initial_model} if initial_model else {}
        return (notes | {"warning": warning} if warning else notes) | {
            "tokens_per_second": round(self._speed(), 1),
            "steps": self.progress.step,
            "epochs": self.progress.epoch,
            "seconds": round(self.progress.seconds, 1),
            "validation": validation,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "peak_memory_bytes": peak_memory_bytes(),
        }

    def _training_end(self, sequences: Sequences) -> np.ndarray:
        return training_end(sequences, self.dataset.info, self.settings.protocol)

    def _remaining_batches(self) -> Iterator[Spans]:
        """Yield the remaining batches of the epoch, with spans of the sequences that the loader has open."""
        epoch = self.loader.epoch
        while self.loader.epoch == epoch:
            self._open_buffer()
            yield from self.loader.batches()

    def _open_buffer(self) -> None:
        """Read the loader's next buffer. Time-matched negatives come from the training events of the same buffer."""
        if self.needs_negatives and self.loader.names_at_position() != self.loader.names:
            self.objective.time_matched_negatives = None  # leaves the memory with its sequences
        self.loader.open()
        if self.needs_negatives and self.objective.time_matched_negatives is None:
            sequences = self.loader.sequences
            events = training_events(sequences, self.loader.training_end(sequences))
            self.objective.time_matched_negatives = TimeMatchedNegatives(sequences, events)

    def _step(self, batch: Spans) -> Losses:
        """Do one optimiser step, update the progress and return the losses."""
        start_time = time.perf_counter()
        self.model.train()
        torch.manual_seed(self.settings.seed * 1_000_003 + self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._rate(self.progress.step)
        history = History.gather(self.loader.sequences, batch)
        losses = self.objective(self.model.network, history)
        total = self.objective.total(losses)
        if not total.isfinite():
            raise InputError(
                f"the training loss is {float(total.detach())} at step {self.progress.step}; lower pretrain.learning_rate"
            )
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.model.network.bound_scales()
        self.progress.step += 1
        self.progress.events += len(history.item)
        self.progress.seconds += time.perf_counter() - start_time
        return losses

    def _rate(self, step: int) -> float:
        """Return the learning rate as a fraction of the peak: a linear rise, then `cosine_rate`."""
        warmup = max(self.settings.warmup * self.total_steps, 1)
        if step < warmup:
            return (step + 1) / warmup
        return cosine_rate(min((step - warmup) / max(self.total_steps - warmup, 1), 1))

    def _validate(self, curves: "SummaryWriter") -> float:
        """Validate the current weights, keep a copy if they are the best, and return the validation loss."""
        metrics = validate(self.model, self.validation, self.settings.batch_events)
        if metrics:
            metrics[POPULARITY] = self.popularity_recall
        loss = self.settings.item_weight * metrics.get("item_loss", 0.0)
        loss += self.settings.feedback_contrast_weight * metrics.get("feedback_contrast_loss", 0.0)
        loss += self.settings.feedback_prediction_weight * metrics.get("feedback_prediction_loss", 0.0)
        self._log(curves, {"epoch": self.progress.epoch, "validation": {"loss": loss, **metrics}})
        score = validation_score(self.settings.protocol, metrics)
        # Without validation events, the last weights are kept.
        if score is None or self.progress.best_score is None or score > self.progress.best_score:
            self.progress.best_score, self.progress.best_validation, self.progress.without_gain = score, metrics, 0
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        else:
            self.progress.without_gain += 1
        return loss

    def _epoch_message(self, loss: float) -> str:
        progress, speed = self.progress, self._speed()
        validation = f", validation loss {loss:.4f}" if progress.best_validation else ""
        step = f"epoch {progress.epoch} of {self.settings.epochs}, step {progress.step:,} of {self.total_steps:,}"
        return f"{step}{validation}, {speed:,.0f} tokens/s"

    def _speed(self) -> float:
        """Return the number of history tokens per second. The tokens of questions are not counted."""
        return 2 * self.progress.events / max(self.progress.seconds, 1e-9)

    def _training_metrics(self, losses: Losses) -> dict[str, float]:
        return {
            "loss": float(self.objective.total(losses).detach()),
            "item_loss": float(losses.item.detach()),
            "feedback_contrast_loss": float(losses.feedback_contrast.detach()),
            "feedback_prediction_loss": float(losses.feedback_prediction.detach()),
            "lr": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": round(self._speed(), 1),
        }

    def _log(self, curves: "SummaryWriter", metrics: dict[str, Any]) -> None:
        """Append the metrics to `metrics.jsonl` and to the TensorBoard curves `train/NAME` or `validation/NAME`."""
        with open(self.work / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.progress.step, **metrics}) + "\n")
        for name, value in (metrics.get("validation") or metrics).items():
            kind = "validation" if "validation" in metrics else "train"
            curves.add_scalar(f"{kind}/{name}", value, self.progress.step)

    def _checkpoint(self) -> None:
        self.progress.loader = self.loader.state()
        save_checkpoint(self.work / "checkpoints", self.model, self.optimizer, self.best, self.progress)

    def _resume(self) -> None:
        """Load the newest checkpoint, if there is one, and delete later lines of `metrics.jsonl`."""
        progress = load_checkpoint(self.work / "checkpoints", self.model, self.optimizer, self.best)
        if progress:
            self.progress = progress
            self.loader.load_state(progress.loader)
        file = self.work / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
        valid_lines = [line for line in lines if _line_step(line) <= self.progress.step]
        file.write_text("".join(line + "\n" for line in valid_lines), encoding="utf-8")


def _line_step(line: str) -> float:
    """Return the step of a line of `metrics.jsonl`, or infinity for a damaged line, such as a partly written one."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _optimizer(model: LargeUserModel, settings: PretrainSettings) -> torch.optim.Optimizer:
    """Return AdamW with weight decay for the matrices of linear layers, not for embeddings, norms, biases and temperatures."""
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in matrices], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


def _progress_bar() -> Progress:
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"
    return new_progress(*columns, TimeRemainingColumn(), refresh_per_second=2)
