"""What can go wrong with a summary.

.. code-block:: text

    SummarizeError
    ├── ContentError
    ├── OptionError
    ├── BudgetExceededError
    └── ProviderError
        ├── RequestRefusedError
        │   ├── ContentRefusedError
        │   └── TextTooLongError
        ├── AccountError
        ├── RateLimitedError
        ├── UnavailableError
        │   └── ProviderTimeoutError
        └── BadAnswerError
            └── EmptyAnswerError

Whether another attempt can help is a property of the class, and so is whether the
failure counts against the service (its circuit breaker): a caller's mistake says
nothing about the health of the other side. No message and no attribute holds a
piece of the text, of the answer or of the key.
"""

from typing import ClassVar

from taskflow import TaskFlowError


class SummarizeError(TaskFlowError):
    """Base of every error of this package.

    Attributes:
        is_retryable: Whether the same call may succeed later.
        counts_against_upstream: Whether it speaks against the service's health.
    """

    is_retryable: ClassVar[bool] = False
    counts_against_upstream: ClassVar[bool] = False


class ContentError(SummarizeError):
    """Permanent: there is nothing in the content that could be summarised.

    Attributes:
        reason: Which part of it is wrong, without showing it.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the content cannot be summarised: {reason}")


class OptionError(SummarizeError):
    """Permanent: an argument of the task is out of its bounds.

    Attributes:
        name: Of the argument.
        bound: What it must be.
    """

    def __init__(self, name: str, bound: str, value: object) -> None:
        self.name = name
        self.bound = bound
        super().__init__(f"{name} must be {bound}, got {value!r}")


class BudgetExceededError(SummarizeError):
    """Permanent: the next call could cost more than this task may; it was not made.

    Attributes:
        setting: The variable that sets the cap.
        cap: The cap, with its unit.
        tokens: Spent so far, over all attempts.
        cost: US dollars spent so far, as far as it was said.
    """

    def __init__(self, setting: str, cap: str, tokens: int, cost: float) -> None:
        self.setting = setting
        self.cap = cap
        self.tokens = tokens
        self.cost = cost
        super().__init__(
            f"the summary would exceed {setting}={cap}; {tokens} tokens and "
            f"{cost:.6g} USD are spent"
        )


class ProviderError(SummarizeError):
    """The provider did not give a summary.

    Attributes:
        provider: Its name.
        reason: What happened, in fixed words.
        status_code: The HTTP status that it amounts to, or None where there was no
            answer. It may not be the one that was sent: a service relays a 401 that
            its own host met as if the caller's key were wrong; here that is 502.
        retry_after: Seconds that the provider asked to wait, or None.
        code: The provider's own word for it, or None.
        is_billed: Whether the call counts as one that was paid for.
        prompt_tokens: Tokens read that are billed all the same.
        completion_tokens: Tokens written that are billed all the same.
        cost: US dollars, or None where it is not said.
    """

    is_billed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def __init__(
        self,
        provider: str,
        reason: str,
        *,
        status_code: int | None = None,
        retry_after: float | None = None,
        code: str | None = None,
    ) -> None:
        self.provider = provider
        self.reason = reason
        self.status_code = status_code
        self.retry_after = retry_after
        self.code = code
        facts = [
            f"status {status_code}" if status_code is not None else "",
            f"code {code}" if code is not None else "",
            f"wait {retry_after:g} s" if retry_after is not None else "",
        ]
        stated = ", ".join(fact for fact in facts if fact)
        super().__init__(f"{provider}: {reason}" + (f" ({stated})" if stated else ""))


class RequestRefusedError(ProviderError):
    """Permanent: the request itself is wrong: no such model, too long, malformed."""


class ContentRefusedError(RequestRefusedError):
    """Permanent: the provider will not work on this text."""


class TextTooLongError(RequestRefusedError):
    """Permanent: the text does not fit in the model's window; smaller pieces may."""


class AccountError(ProviderError):
    """Retryable once a person has acted: the key is rejected, or credit is spent."""

    is_retryable = True


class RateLimitedError(ProviderError):
    """Retryable: too many requests; says nothing against the service."""

    is_retryable = True


class UnavailableError(ProviderError):
    """Retryable: the service failed, or could not be reached."""

    is_retryable = True
    counts_against_upstream = True


class ProviderTimeoutError(UnavailableError, TimeoutError):
    """Retryable: no answer in time. The provider may bill for it all the same."""


class BadAnswerError(ProviderError):
    """Retryable: an answer came, and there is no summary in it."""

    is_retryable = True
    counts_against_upstream = True


class EmptyAnswerError(BadAnswerError):
    """Retryable: the model answered as it should, but wrote no text.

    It says nothing against the service, and may have been billed.

    Attributes:
        is_truncated: Whether the budget of tokens ended before the text began, as
            it does where a model thinks first: a larger one may help.
    """

    counts_against_upstream = False
    is_billed = True

    def __init__(
        self,
        provider: str,
        reason: str,
        *,
        status_code: int | None = None,
        is_truncated: bool = False,
    ) -> None:
        super().__init__(provider, reason, status_code=status_code)
        self.is_truncated = is_truncated
