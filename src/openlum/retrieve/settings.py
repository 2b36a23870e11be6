"""How retrieval is judged."""

from typing import Annotated

from pydantic import Field, model_validator

from openlum.config import Question, Settings


class RetrieveSettings(Settings):
    """Settings of `lum retrieve`."""

    questions: dict[str, Question] = Field(default={"any": {}}, min_length=1, max_length=1000)
    """Name to question: condition fields and their raw values; what is not named is *any*."""
    known: dict[str, list[str]] = {}
    """Further questions: name to the condition fields that the held-out event's own values are taken of. They are told more
    than the history, so their figures stand apart. Feedback fields cannot be known."""
    at: list[Annotated[int, Field(ge=1, le=10**9)]] = Field(default=[10, 50, 200], min_length=1, max_length=100)
    """Cut-offs of HR and NDCG."""
    exclude_seen: bool = True
    """Whether items of the user's history are left out of the ranking (the held-out item never is)."""
    batch_users: int = Field(256, ge=1, le=1_000_000)
    """Users searched for at once."""

    @model_validator(mode="after")
    def _each_name_once(self) -> "RetrieveSettings":
        twice = sorted(set(self.questions) & set(self.known))
        if twice:
            raise ValueError(f"'{twice[0]}' is a name in both 'questions' and 'known'; give it another in one of them")
        if len(set(self.at)) < len(self.at):
            raise ValueError(f"at: each cut-off may be named once only (found {self.at})")
        return self
