"""Step 1, knowledge construction: the training of a Large User Model.

A training is a function of its inputs: the order of the batches depends on the seed and the epoch, the random draws depend on the
seed and the step. So a checkpoint does not need the state of a random generator, and a resumed training gives the same weights as
an uninterrupted one. The events are read shard by shard (`data/loader.py`).

Shapes: U users.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from openlum.arguments.values import as_path, as_path_or_none, check_kind
from openlum.artefact.directory import whole_directory
from openlum.artefact.json_file import fingerprint, named_failures, write_json
from openlum.artefact.keys import step_key
from openlum.artefact.lock import locked
from openlum.console import new_console, new_progress
from openlum.data.dataset import Dataset
from openlum.data.loader import TrainingLoader
from openlum.data.packing import Spans, training_end, training_events
from openlum.data.sequences import Sequences, concatenate
from openlum.model import History, LargeUserModel, ModelSettings, Processor, default_device
from openlum.model.settings import TAKEN
from openlum.pretrain.activity import set_activity_weights
from openlum.pretrain.card import write_card
from openlum.pretrain.checks import check_events, check_pretraining
from openlum.pretrain.distillation import finish_matching_head, forget_users
from openlum.pretrain.initialization import build_model, load_initial_model
from openlum.pretrain.objective import Objective
from openlum.pretrain.plan import plan_for
from openlum.pretrain.score import TIE, popularity_warning, validation_score
from openlum.pretrain.settings import PretrainSettings
from openlum.pretrain.shown_items import ShownItems, has_shown_items
from openlum.pretrain.time_matched_negatives import TimeMatchedNegatives
from openlum.pretrain.validation import POPULARITY, ValidationSet, validate, validation_set
from openlum.training.loop import BatchLoss, LoopSettings, TrainingLoop, Validation
from openlum.training.memory import peak_memory_bytes
from openlum.training.metrics_log import MetricsLog
from openlum.training.schedule import warmup_cosine_rate
from openlum.training.training_set import count_training_set

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
        work.mkdir(parents=True, exist_ok=True)
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
        trainer.finish_matching_head()
        summary = trainer.summary() | {"activity": set_activity_weights(model, dataset, trainer.validation, settings)}
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


class Trainer(TrainingLoop):
    """The training of a Large User Model.

    Args:
        model: to train, on its device.
        dataset: to train on.
        settings: of the training.
        work: directory for checkpoints, `metrics.jsonl` and TensorBoard curves.
        training_end: returns the number of training events of each user, (U,); by default, all events that the protocol does not
            hold out.
    """

    model: LargeUserModel
    loader: TrainingLoader

    def __init__(
        self,
        model: LargeUserModel,
        dataset: Dataset,
        settings: PretrainSettings,
        work: Path,
        training_end: Callable[[Sequences], np.ndarray] | None = None,
    ) -> None:
        self.dataset, self.settings, self.work = dataset, settings, work
        loader = TrainingLoader(
            dataset,
            training_end or self._training_end,
            max_events=model.config.settings.max_events,
            batch_events=settings.batch_events,
            buffer_events=settings.buffer_events,
            seed=settings.seed,
        )
        training_set = count_training_set(loader, model.config.items)
        self.predicts_taken = TAKEN in model.config.trained_feedback_targets
        self.has_shown_items = self.predicts_taken and has_shown_items(dataset)
        check_events(dataset, training_set.events, training_set.users, self.predicts_taken)
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
        self.steps_per_epoch = training_set.steps_per_epoch
        self.total_steps = settings.epochs * self.steps_per_epoch
        limits = LoopSettings(
            epochs=settings.epochs,
            patience=settings.patience,
            higher_is_better=True,
            remedy="lower pretrain.learning_rate",
            validates_first=bool(model.config.initialised_from),  # the initial model's score must be beaten
            checkpoint_steps=settings.checkpoint_steps,
            gradient_clip=settings.gradient_clip,
        )
        super().__init__(model, _optimizer(model, settings), limits, work / "checkpoints", loader)

    def run(self, until: int | None = None) -> None:
        """Train to the end, from the newest checkpoint on. Afterwards the model has the weights with the best validation score.

        Args:
            until: stop after this step, like an interruption. The model keeps the weights of this step.
        """
        self.resume()
        with MetricsLog(self.work, self.progress.step) as self.log, _progress_bar() as self.bar:
            total = self.expected_steps(self.steps_per_epoch)
            self.task = self.bar.add_task("pretrain", total=total, completed=self.progress.step, note="")
            super().run(until)

    def finish_matching_head(self) -> None:
        """Train the matching head on, with all other weights fixed. The metrics of the best validation become those after it."""
        best = self.progress.best
        metrics = finish_matching_head(
            self.model.network,
            self._histories_after_training(),
            self.objective,
            lambda: validate(self.model, self.validation, self.settings.batch_events),
            best.metrics if best else {},
            self.settings.seed,
        )
        if best:
            best.metrics.update(metrics)

    def forget_users(self) -> None:
        """Train the matching head of a finished model to predict without user vectors: the control `no user`."""
        forget_users(self.model.network, self._histories_after_training(), self.objective, self.settings.seed)

    def _histories_after_training(self) -> Iterator[History]:
        """Return the batches of one more epoch."""
        self.loader.load_state({"epoch": self.settings.epochs, "buffer": 0, "batch": 0})
        return (History.gather(self.loader.sequences, batch) for batch in self.batches(self.settings.epochs))

    def batches(self, epoch: int) -> Iterator[Spans]:
        """Yield the remaining batches of the epoch, with spans of the sequences that the loader has open."""
        return self.loader.epoch_batches(self._open_buffer)

    def loss(self, batch: Spans) -> BatchLoss:
        """Return the loss of a batch. Its random draws depend on the seed and the step."""
        torch.manual_seed(self.settings.seed * 1_000_003 + self.progress.step)
        history = History.gather(self.loader.sequences, batch)
        losses = self.objective(self.model.network, history)
        parts = {f"{name}_loss": value for name, value in vars(losses).items()}
        return BatchLoss(self.objective.total(losses), len(history.item), parts)

    def validate(self) -> Validation:
        """Return the score of the protocol, or no score without validation events, and the metrics with the loss."""
        metrics = validate(self.model, self.validation, self.settings.batch_events)
        if not metrics:
            return Validation(None)
        loss = self.settings.item_weight * metrics["item_loss"]
        loss += self.settings.feedback_contrast_weight * metrics.get("feedback_contrast_loss", 0.0)
        loss += self.settings.feedback_prediction_weight * metrics.get("feedback_prediction_loss", 0.0)
        loss += self.settings.matching_head_weight * metrics.get("matching_head_loss", 0.0)
        metrics = {"loss": loss, **metrics, POPULARITY: self.popularity_recall}
        score = validation_score(self.settings.protocol, metrics)
        return Validation(None if score is None else score - TIE * loss, metrics)

    def rate(self, position: int) -> float:
        """Return the learning rate at a step as a fraction of the peak."""
        return warmup_cosine_rate(position, self.settings.warmup * self.total_steps, self.total_steps)

    def on_step(self, metrics: dict[str, float]) -> None:
        """Show and log the metrics of a step."""
        speed, total = self._speed(), self.expected_steps(self.steps_per_epoch)
        note = f"loss {metrics['loss']:.4f}, {speed:,.0f} tokens/s"
        self.bar.update(self.task, completed=self.progress.step, total=total, note=note)
        if self.progress.step % LOG_STEPS == 0:
            self.log.training(self.progress.step, metrics | {"tokens_per_second": round(speed, 1)})

    def on_validation(self, validation: Validation, is_best: bool) -> None:
        """Show and log the metrics of a validation."""
        progress, score = self.progress, {} if validation.score is None else {"score": validation.score}
        self.log.validation(progress.step, progress.epoch, score | validation.metrics)
        total = self.expected_steps(self.steps_per_epoch)
        self.bar.update(self.task, total=total)
        message = f"epoch {progress.epoch} of {self.settings.epochs}, step {progress.step:,} of {total:,}"
        if validation.score is not None:
            message += f", validation score {validation.score:.4f}, loss {validation.metrics['loss']:.4f}"
        self.bar.console.print(f"{message}, {self._speed():,.0f} tokens/s", soft_wrap=True)  # also without a terminal

    def summary(self) -> dict[str, Any]:
        """Return the section `pretrain` of `summary.json`: size, speed and validation metrics of the training."""
        initial_model, best = self.model.config.initialised_from, self.progress.best
        validation = best.metrics if best else {}
        warning = popularity_warning(validation)
        notes = {"initialised_from": initial_model} if initial_model else {}
        return (
            notes
            | ({"warning": warning} if warning else {})
            | {
                "tokens_per_second": round(self._speed(), 1),
                "steps": self.progress.step,
                "epochs": self.progress.epoch,
                "seconds": round(self.progress.seconds, 1),
                "validation": validation,
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "peak_memory_bytes": peak_memory_bytes(),
            }
        )

    def _training_end(self, sequences: Sequences) -> np.ndarray:
        return training_end(sequences, self.dataset.info, self.settings.protocol)

    def _open_buffer(self) -> None:
        """Read the loader's next buffer. Time-matched negatives and impressions come from the same buffer."""
        objective = self.objective
        if self.loader.names_at_position() != self.loader.names:
            objective.time_matched_negatives = objective.shown_items = None  # leave the memory with their sequences
        self.loader.open()
        if self.predicts_taken and objective.time_matched_negatives is None:
            sequences = self.loader.sequences
            events = training_events(sequences, self.loader.training_end(sequences))
            objective.time_matched_negatives = TimeMatchedNegatives(sequences, events)
            if self.has_shown_items:
                parts = [self.dataset.impressions_of(name, "train") for name in self.loader.names]
                objective.shown_items = ShownItems(sequences, concatenate(parts))

    def _speed(self) -> float:
        """Return the number of history tokens per second. The tokens of questions are not counted."""
        return 2 * self.progress.size / max(self.progress.seconds, 1e-9)


def _optimizer(model: LargeUserModel, settings: PretrainSettings) -> torch.optim.Optimizer:
    """Return AdamW with weight decay for the matrices of linear layers, not for embeddings, norms, biases and temperatures."""
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in matrices], "weight_decay": settings.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in matrices], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    optimizer.register_step_post_hook(lambda *_: model.network.bound_scales())
    return optimizer


def _progress_bar() -> Progress:
    columns = "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}"
    return new_progress(*columns, TimeRemainingColumn(), refresh_per_second=2)
