"""How a Large User Model is trained."""

from pydantic import Field

from openlum.config import Settings
from openlum.data.packing import Protocol


class PretrainSettings(Settings):
    """Settings of `lum pretrain`."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the weights, the order of the users, dropout and sampling."""
    protocol: Protocol = "both"
    """What is kept from training: events from the validation period on (`time`, for ranking), each user's last two (`last`,
    for retrieval), or `both`."""
    epochs: int = Field(10, ge=1, le=1_000_000)
    """Passes over the events, if validation does not stop earlier."""
    batch_events: int = Field(4096, ge=16, le=10**8)
    """Events in a step; each is two tokens."""
    learning_rate: float = Field(2e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(0.01, ge=0, le=100)
    """Weight decay of the matrices."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Part of the steps in which the learning rate rises; then it falls along a cosine to a tenth."""
    gradient_clip: float = Field(1.0, gt=0, le=1e6)
    """Largest norm of the gradient."""
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    """Chance that one condition field of an event becomes *any*."""
    condition_blank: float = Field(0.1, ge=0, lt=1)
    """Chance that all condition fields of an event become *any* at once ("what next?")."""
    question_blank: float = Field(0.0, ge=0, lt=1)
    """Chance that an item is asked for with all fields *any*, while its own token still tells its condition: for retrieval."""
    full_softmax_items: int = Field(50_000, ge=1, le=10**9)
    """Up to so many items that training meets all are negatives; of more, some are drawn."""
    negatives: int = Field(8192, ge=1, le=10**7)
    """Sampled negatives in a step, beside the items of the batch."""
    feedback_contrast_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss over feedback values; 0 leaves it out."""
    feedback_contrast_positions: float = Field(0.12, gt=0, le=1)
    """Part of the events at which every feedback value is asked for."""
    feedback_prediction_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of the loss over the feedback to an item that a question is about; where no condition field is categorical feedback,
    over whether the user took it. 0 leaves it out."""
    feedback_prediction_positions: float = Field(1.0, gt=0, le=1)
    """Part of the events whose item is asked about. Without feedback two other items are asked about with each, and a step
    takes up to twice as long as with feedback."""
    item_weight: float = Field(1.0, ge=0, le=1e6)
    """Weight of next-condition-item InfoNCE."""
    patience: int = Field(2, ge=1, le=1_000_000)
    """Stop after this many validations without a better loss."""
    validation_events: int = Field(20_000, ge=1, le=10**9)
    """About how many events each validation looks at."""
    checkpoint_steps: int = Field(500, ge=1, le=10**9)
    """A checkpoint to resume from, this often and after every epoch."""
