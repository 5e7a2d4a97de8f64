"""What goes in over HTTP: bodies with an example of each, and kinds of parameters."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from taskflow import TaskState

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]


def _plus(value: object) -> object:
    """Mend a time zone whose plus sign the query string turned into a blank."""
    return value.replace(" ", "+") if isinstance(value, str) and "T" in value else value


Moment = Annotated[AwareDatetime, BeforeValidator(_plus)]
"""A time with its zone; without one it could mean any of two dozen."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


StateName = Annotated[TaskState, BeforeValidator(_upper)]


class Body(BaseModel):
    """What a client sends; what is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")


class SummarizeBody(Body):
    """A text to be summarised."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"content": "This is a test document to summarize."}
        },
    )

    content: str = Field(min_length=1)
    max_words: int | None = Field(default=None, ge=10, le=2000)
    provider: Literal["auto", "openrouter", "extractive"] | None = None
    style: Literal["paragraph", "bullets", "headline", "tldr"] | None = None
    language: str | None = Field(
        default=None,
        pattern=r"^(auto|[a-z]{2})$",
        description="Code of the language to write in, such as `en`; `auto`: that of "
        "the text.",
    )
    focus: str | None = Field(default=None, max_length=300)


class CallOptionsBody(Body):
    """What one call asks for; durations in seconds."""

    delay: float | None = Field(default=None, ge=0)
    key: str | None = Field(default=None, min_length=1, max_length=200)
    key_ttl: float | None = Field(default=None, ge=0)
    expires: float | None = Field(default=None, gt=0)
    max_retries: int | None = Field(default=None, ge=0, le=1000)
    timeout: float | None = Field(default=None, gt=0)


class CallBody(Body):
    """A call of any registered task."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "summarize_text",
                "args": {"content": "This is a test document to summarize."},
                "options": {"delay": 60},
            }
        },
    )

    name: TaskName
    args: dict[str, Any] = Field(default_factory=dict)
    options: CallOptionsBody = Field(default_factory=CallOptionsBody)


class Selection(Body):
    """Which dead letters: some by id, a group, a task's, or all, said aloud."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"fingerprint": "3f2a91c0d4be"}},
    )

    ids: list[Id] | None = Field(default=None, min_length=1, max_length=1000)
    fingerprint: str | None = Field(default=None, pattern=r"^[a-z0-9_]{1,64}$")
    name: TaskName | None = None
    everything: bool = False
    preview: bool = False

    @model_validator(mode="after")
    def one_way(self) -> Self:
        """Refuse what names nothing, or two things."""
        by_kind = self.fingerprint is not None or self.name is not None
        ways = [self.ids is not None, by_kind, self.everything]
        if sum(ways) != 1:
            message = "name ids, or fingerprint and/or name, or everything: true"
            raise ValueError(message)
        return self


class RequeueBody(Selection):
    """Which dead letters to bring back, and how fast."""

    rate: float | None = Field(default=None, gt=0, le=100_000)


class EditBody(Body):
    """New arguments of a dead letter, by name; the others stay."""

    arguments: dict[str, Any] = Field(min_length=1)
