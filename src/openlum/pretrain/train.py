"""Step 1, knowledge construction: the training loop.

A training is a function of its inputs: the order of the users depends on the seed and the epoch, the random draws on the
seed and the step. So a checkpoint needs no generator's state, and a resumed training equals an uninterrupted one.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from openlum.arguments.values import as_path, as_path_or_none, check_kind
from openlum.artefact.directory import fingerprint, named_failures, whole_directory, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.lock import locked
from openlum.console import new_progress
from openlum.data.dataset import Dataset
from openlum.data.packing import Spans, batches, training_end, training_events, training_spans
from openlum.errors import InputError
from openlum.model import History, LargeUserModel, ModelSettings, Processor, default_device
from openlum.model.settings import TAKEN
from openlum.pretrain.card import write_card
from openlum.pretrain.checks import check_events, check_pretraining
from openlum.pretrain.initial import build_model, starting_point
from openlum.pretrain.objective import Losses, Objective
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives
from openlum.pretrain.validation import ValidationSet, validate, validation_set
from openlum.training.checkpoint import Progression, load_checkpoint, save_checkpoint
from openlum.training.memory import peak_memory_bytes
from openlum.training.schedule import cosine_rate

LOG_EVERY = 10


def pretrain(
    dataset_dir: str | Path,
    out: str | Path,
    model_settings: ModelSettings,
    settings: PretrainSettings,
    init_from: str | Path | None = None,
) -> dict[str, Any]:
    """Train a Large User Model and write `model/`.

    While it trains, `out` with `.work` after its name holds checkpoints, metrics and TensorBoard curves; a training that was
    interrupted goes on from there if data and settings are the same.

    Args:
        dataset_dir: from `lum prepare`.
        out: the model directory.
        model_settings: the model's shape.
        settings: of the training.
        init_from: a model whose weights the new one begins with; it also has its shape, where `model_settings` does not set it.

    Returns:
        The `pretrain` part of `summary.json`.

    Raises:
        InputError: there is nothing to train on, the model to begin with does not fit, or another process trains it.
    """
    dataset_dir, out = as_path("dataset_dir", dataset_dir), as_path("out", out)
    init_from = as_path_or_none("init_from", init_from)
    check_kind("model_settings", model_settings, ModelSettings)
    check_kind("settings", settings, PretrainSettings)
    dataset = Dataset(dataset_dir)
    old = None
    if init_from:
        old, model_settings = starting_point(init_from, dataset, model_settings, settings.protocol)
    check_pretraining(dataset, Processor.of(dataset), model_settings, settings, out)
    inputs = {"dataset": dataset_dir} | ({"init_from": init_from} if init_from else {})
    trained_on = fingerprint(step_key("pretrain", [model_settings.model_dump(), settings.model_dump()], inputs))
    work = out.resolve().with_name(out.resolve().name + ".work") / trained_on
    with locked(out), named_failures(work):
        (work / "checkpoints").mkdir(parents=True, exist_ok=True)
        model = build_model(
            dataset,
            model_settings,
            settings.seed,
            settings.protocol,
            trained_on,
            old,
            settings.feedback_prediction_weight > 0,
        )
        model = model.to(default_device())
        trainer = Trainer(model, dataset, settings, work)
        trainer.run()
        summary = trainer.summary()
        with whole_directory(out, "model") as directory:
            model.save_pretrained(directory)
            write_card(directory, model, dataset.info, settings, summary)
            write_json(directory / "pretrain.json", summary)
            (directory / "metrics.jsonl").write_bytes((work / "metrics.jsonl").read_bytes())
        shutil.rmtree(work / "checkpoints")
    return summary


class Trainer:
    """The loop and what it needs.

    Args:
        model: on its device.
        dataset: to train on.
        settings: of the training.
        work: directory for checkpoints, `metrics.jsonl` and TensorBoard curves.
        end: (U,) how many of each user's events are learned from; by default all that the protocol allows.
    """

    def __init__(
        self,
        model: LargeUserModel,
        dataset: Dataset,
        settings: PretrainSettings,
        work: Path,
        end: np.ndarray | None = None,
    ) -> None:
        self.model, self.dataset, self.settings, self.work = model, dataset, settings, work
        self.end = training_end(dataset, settings.protocol) if end is None else end
        contrasted = TAKEN in model.config.trained_feedback_targets
        check_events(dataset, self.end, contrasted)
        events = training_events(dataset.sequences, self.end)  # (M,)
        items = np.bincount(dataset.sequences.item[events], minlength=model.config.items)  # (V,)
        trained = torch.from_numpy(items > 0).to(model.device)
        model.item_encoder.set_trained_items(
            model.item_encoder.trained_items | trained if model.config.initialised_from else trained
        )
        catalogue = model.item_encoder.candidates().cpu()
        others = TimeMatchedNegatives(dataset.sequences, events) if contrasted else None
        self.objective = Objective(model.config, settings, items / items.sum(), catalogue, others)
        self.validation: ValidationSet = validation_set(
            dataset, settings.protocol, model.config.settings.max_events, settings.validation_events, settings.seed
        )
        self.optimizer = _optimizer(model, settings)
        self.total_steps = settings.epochs * len(list(self._epoch(0)))
        self.progress = Progression()
        self.best: dict[str, Tensor] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def run(self, until: int | None = None) -> None:
        """Train to the end, or to a step; then the model has the weights of the best validation.

        Args:
            until: stop after this step, as an interruption would, and leave the weights as they are.
        """
        self._resume()
        with (
            SummaryWriter(str(self.work / "tensorboard"), purge_step=self.progress.step) as curves,
            _progress_bar() as bar,
        ):
            task = bar.add_task("pretrain", total=self.total_steps, completed=self.progress.step, note="")
            if self.model.config.initialised_from and self.progress.best_loss is None:
                self._validate(curves)  # what training must improve on
                self._checkpoint()
            while self.progress.epoch < self.settings.epochs and self.progress.without_gain < self.settings.patience:
                for batch in self._remaining():
                    losses = self._step(batch)
                    figures = self._figures(losses)
                    note = f"loss {figures['loss']:.4f}, {figures['tokens_per_second']:,.0f} tokens/s"
                    bar.update(task, completed=self.progress.step, note=note)
                    if self.progress.step % LOG_EVERY == 0:
                        self._log(curves, figures)
                    if self.progress.step == until:
                        return
                    if self.progress.step % self.settings.checkpoint_steps == 0:
                        self._checkpoint()
                self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
                loss = self._validate(curves)
                self._checkpoint()
                bar.console.print(self._told(loss), soft_wrap=True)  # also where there is no terminal for a bar
        self.model.load_state_dict(self.best)
        self.model.eval()

    def summary(self) -> dict[str, Any]:
        """What the training came to."""
        start = self.model.config.initialised_from
        return ({"initialised_from": start} if start else {}) | {
            "tokens_per_second": round(self._speed(), 1),
            "steps": self.progress.step,
            "epochs": self.progress.epoch,
            "seconds": round(self.progress.seconds, 1),
            "validation": self.progress.best_validation,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "peak_memory_bytes": peak_memory_bytes(),
        }

    def _epoch(self, epoch: int) -> Iterator[Spans]:
        rng = np.random.default_rng((self.settings.seed, epoch))
        spans = training_spans(self.end, self.model.config.settings.max_events, rng)
        return batches(spans, self.settings.batch_events)

    def _remaining(self) -> Iterator[Spans]:
        for index, batch in enumerate(self._epoch(self.progress.epoch)):
            if index >= self.progress.batch:
                yield batch

    def _step(self, batch: Spans) -> Losses:
        """One optimiser step; counts it."""
        began = time.perf_counter()
        self.model.train()
        torch.manual_seed(self.settings.seed * 1_000_003 + self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._rate(self.progress.step)
        history = History.gather(self.dataset.sequences, batch)
        losses = self.objective(self.model, history)
        total = self.objective.total(losses)
        if not total.isfinite():
            raise InputError(
                f"the loss is {float(total.detach())} at step {self.progress.step}; lower pretrain.learning_rate"
            )
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.model.bound_scales()
        self.progress.step += 1
        self.progress.batch += 1
        self.progress.events += len(history.item)
        self.progress.seconds += time.perf_counter() - began
        return losses

    def _rate(self, step: int) -> float:
        """Part of the peak learning rate: a line up, then `cosine_rate`."""
        warmup = max(self.settings.warmup * self.total_steps, 1)
        if step < warmup:
            return (step + 1) / warmup
        done = min((step - warmup) / max(self.total_steps - warmup, 1), 1)
        return cosine_rate(done)

    def _validate(self, curves: SummaryWriter) -> float:
        """Judge the weights, and keep them if they are the best; returns their loss."""
        figures = validate(self.model, self.dataset, self.validation, self.settings.batch_events)
        # Without validation events the last weights are the best.
        loss = self.settings.item_weight * figures["item_loss"] if figures else -float(self.progress.step)
        loss += self.settings.feedback_contrast_weight * figures.get("feedback_contrast_loss", 0.0)
        loss += self.settings.feedback_prediction_weight * figures.get("feedback_prediction_loss", 0.0)
        self._log(curves, {"epoch": self.progress.epoch, "validation": {"loss": loss, **figures}})
        if self.progress.best_loss is None or loss < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_validation, self.progress.without_gain = loss, figures, 0
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        else:
            self.progress.without_gain += 1
        return loss

    def _told(self, loss: float) -> str:
        done, speed = self.progress, self._speed()
        judged = f", validation loss {loss:.4f}" if done.best_validation else ""
        where = f"epoch {done.epoch} of {self.settings.epochs}, step {done.step:,} of {self.total_steps:,}"
        return f"{where}{judged}, {speed:,.0f} tokens/s"

    def _speed(self) -> float:
        """Tokens of histories a second; questions come on top."""
        return 2 * self.progress.events / max(self.progress.seconds, 1e-9)

    def _figures(self, losses: Losses) -> dict[str, float]:
        return {
            "loss": float(self.objective.total(losses).detach()),
            "item_loss": float(losses.item.detach()),
            "feedback_contrast_loss": float(losses.feedback_contrast.detach()),
            "feedback_prediction_loss": float(losses.feedback_prediction.detach()),
            "lr": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": round(self._speed(), 1),
        }

    def _log(self, curves: SummaryWriter, figures: dict[str, Any]) -> None:
        with open(self.work / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.progress.step, **figures}) + "\n")
        for name, value in (figures.get("validation") or figures).items():
            kind = "validation" if "validation" in figures else "train"
            curves.add_scalar(f"{kind}/{name}", value, self.progress.step)

    def _checkpoint(self) -> None:
        save_checkpoint(self.work / "checkpoints", self.model, self.optimizer, self.best, self.progress)

    def _resume(self) -> None:
        progress = load_checkpoint(self.work / "checkpoints", self.model, self.optimizer, self.best)
        if progress:
            self.progress = progress
        metrics = self.work / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines() if metrics.exists() else []
        kept = [line for line in lines if _step_of(line) <= self.progress.step]
        metrics.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinity for a damaged one, such as half a line where the machine stopped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _optimizer(model: LargeUserModel, settings: PretrainSettings) -> torch.optim.Optimizer:
    """AdamW; weight decay for the matrices of layers, not for embeddings, norms, biases and temperatures."""
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in matrices], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


def _progress_bar() -> Progress:
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"
    return new_progress(*columns, TimeRemainingColumn(), refresh_per_second=2)
