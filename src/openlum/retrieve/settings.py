"""Settings of the evaluation of retrieval."""

from typing import Annotated

from pydantic import Field, model_validator

from openlum.config import Question, Settings

BASELINES = POPULARITY, RECENT_POPULARITY, REPEAT = "popularity", "recent popularity", "repeat last"
"""Names of the baselines in retrieval tables."""


class RetrieveSettings(Settings):
    """Settings of `lum retrieve`."""

    questions: dict[str, Question] = Field(default={"any": {}}, min_length=1, max_length=1000)
    """Name to question: condition fields and their raw values. Fields that a question does not name are *any*."""
    known: dict[str, list[str]] = {}
    """Further questions: name to condition fields. Their values come from the held-out event. These questions have more
    information than the history, so their metrics are reported separately. Feedback fields cannot be named here."""
    at: list[Annotated[int, Field(ge=1, le=10**9)]] = Field(default=[10, 50, 200], min_length=1, max_length=100)
    """Cut-offs of HR and NDCG."""
    exclude_seen: bool | None = None
    """Whether items of the user's history are excluded from the ranking (the held-out item never is). By default, they are
    excluded if fewer than 5 % of the validation events repeat an item of the history."""
    batch_users: int = Field(256, ge=1, le=1_000_000)
    """Number of users per batch."""

    @model_validator(mode="after")
    def _check_no_duplicates(self) -> "RetrieveSettings":
        for name in (*self.questions, *self.known):
            if name in BASELINES:
                raise ValueError(f"'{name}' is the name of a baseline; give the question another name")
        duplicates = sorted(set(self.questions) & set(self.known))
        if duplicates:
            raise ValueError(
                f"'{duplicates[0]}' is a name in both 'questions' and 'known'; give it another name in one of them"
            )
        if len(set(self.at)) < len(self.at):
            raise ValueError(f"at: duplicate cut-off in {self.at}; list every cut-off once")
        return self
