"""The settings of pre-training."""

from typing import ClassVar

from pydantic import Field

from openlum.config import PlannedSettings
from openlum.data.packing import Protocol


class PretrainSettings(PlannedSettings):
    """Settings of `lum pretrain`. A key that is `auto` is planned from the log and the device when the training starts."""

    planned_keys: ClassVar[frozenset[str]] = frozenset(
        {"epochs", "batch_events", "learning_rate", "warmup", "patience"}
    )

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the weights, the order of the users, dropout and sampling."""
    protocol: Protocol = "both"
    """Which events are held out of training: `time`, events from the start of the validation period on (for ranking); `last`,
    each user's last two events (for retrieval); `both`, the events of either kind."""
    epochs: int = Field(10, ge=1, le=1_000_000)
    """Maximum number of passes over the training events. Validation may stop the training earlier. `auto`: from the number of
    steps that a log of this size needs."""
    batch_events: int = Field(4096, ge=16, le=10**8)
    """Events per step. Each event is two tokens. `auto`: from the number of training events."""
    buffer_events: int = Field(2**21, ge=1, le=10**12)
    """Events of the shards of the dataset that are in memory at a time, about 30 bytes each. A batch has users of these shards
    only, in random order. With more memory and a fast device, larger buffers are read less often."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW. `auto`: from the width of the model."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Weight decay of the weight matrices of linear layers."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Fraction of the steps in which the learning rate rises. Afterwards it falls along a cosine to a tenth of the peak.
    `auto`: from the number of steps."""
    gradient_clip: float = Field(1.0, gt=0, le=1e6)
    """Maximum norm of the gradient."""
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    """Probability that one condition field of an event becomes *any*."""
    condition_blank: float = Field(0.1, ge=0, lt=1)
    """Probability that all condition fields of an event become *any* together, as in the question "what next?"."""
    question_blank: float = Field(0.0, ge=0, lt=1)
    """Probability that all fields of a question that searches for an item become *any*, while the item's token in the history
    keeps its condition. For retrieval."""
    full_softmax_items: int = Field(50_000, ge=1, le=10**9)
    """Up to this number of trained items, all of them are negatives. With more trained items, negatives are sampled."""
    negatives: int = Field(8192, ge=1, le=10**7)
    """Sampled negatives per step, in addition to the items of the batch."""
    feedback_contrast_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss that contrasts the feedback values for one item. 0 leaves this loss out."""
    feedback_contrast_positions: float = Field(0.12, gt=0, le=1)
    """Fraction of the events at which a question for every feedback value is answered."""
    feedback_prediction_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss that predicts the feedback to an item. If no condition field is categorical feedback, the prediction is
    whether the user took the item, and every impression of the training period counts as much as an event. 0 leaves this loss
    out."""
    feedback_prediction_positions: float = Field(1.0, gt=0, le=1)
    """Fraction of the events for which the feedback to the item is predicted. Without feedback fields, each such event has two
    negative items and up to five impressions, and a step takes up to twice as long as with feedback fields."""
    matching_head_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss of the matching head, which predicts the feedback to an item from user vectors."""
    matching_head_moments: float = Field(0.2, gt=0, le=1)
    """Fraction of the moments of feedback predictions at which user vectors are computed. The predictions in between use the
    vectors of the last such moment."""
    item_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the next-condition-item InfoNCE loss."""
    patience: int = Field(2, ge=1, le=1_000_000)
    """Training stops after this number of consecutive validations without a better score. The score is NDCG@10 with the protocol
    `last`, the AUC of the predicted feedback with `time`, and the geometric mean of both with `both`. `auto`: from `epochs`."""
    validation_events: int = Field(20_000, ge=1, le=10**9)
    """Approximate number of events that each validation evaluates."""
    checkpoint_steps: int = Field(500, ge=1, le=10**9)
    """A checkpoint is written every time this number of steps is done, and after every epoch."""
