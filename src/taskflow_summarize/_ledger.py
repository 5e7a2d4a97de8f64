"""What one task has paid, and what it may: looked at before each call of a model."""

from collections.abc import Mapping
from typing import Any

from taskflow_summarize._provider import Completion
from taskflow_summarize.errors import BudgetExceededError


class Ledger:
    """The account of one task, over all its attempts.

    Args:
        max_tokens: Most tokens, read and written.
        max_cost: Most US dollars; None = as many as it takes.
        prices: US dollars for a token read and for one written, or None where they
            are not known: then only what was paid is looked at, and the tokens.
        spent: What earlier attempts have paid, as `spent` gave it.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        max_cost: float | None,
        prices: tuple[float, float] | None,
        spent: Mapping[str, Any],
    ) -> None:
        self._max_tokens = max_tokens
        self._max_cost = max_cost
        self._prices = prices
        self.tokens = int(spent.get("tokens", 0))
        self.cost = float(spent.get("cost", 0.0))
        self._held_tokens = 0
        self._held_cost = 0.0

    def hold(self, read: int, written: int) -> tuple[int, float]:
        """Set aside what a call may come to.

        Args:
            read: Tokens of the request, as estimated.
            written: Most tokens of the answer.

        Returns:
            What was set aside, to be given to `pay` or `release`.

        Raises:
            BudgetExceededError: It could exceed a cap; nothing was sent.
        """
        tokens, cost = read + written, self._price(read, written)
        self._check(tokens, cost)
        self._held_tokens += tokens
        self._held_cost += cost
        return tokens, cost

    def foresee(self, read: int) -> None:
        """Look ahead at calls that will read so many tokens together.

        What they will write is not foreseen: it may be little.

        Args:
            read: Tokens of the requests, as estimated.

        Raises:
            BudgetExceededError: Reading alone would exceed a cap.
        """
        self._check(read, self._price(read, 0))

    def _check(self, tokens: int, cost: float) -> None:
        if self.tokens + self._held_tokens + tokens > self._max_tokens:
            name, most = "SUMMARIZE_MAX_TOKENS", f"{self._max_tokens} tokens"
            raise BudgetExceededError(name, most, self.tokens, self.cost)
        most_cost = self._max_cost
        if most_cost is not None and (
            self.cost + self._held_cost + cost > most_cost or self.cost >= most_cost
        ):
            name, most = "SUMMARIZE_MAX_COST", f"{most_cost:g} USD"
            raise BudgetExceededError(name, most, self.tokens, self.cost)

    def _price(self, read: int, written: int) -> float:
        if self._prices is None:
            return 0.0
        return read * self._prices[0] + written * self._prices[1]

    def release(self, held: tuple[int, float]) -> None:
        """Free what was set aside: the call is over."""
        self._held_tokens -= held[0]
        self._held_cost -= held[1]

    def pay(self, answer: Completion) -> None:
        """Write down what a call came to."""
        self.tokens += answer.prompt_tokens + answer.completion_tokens
        if answer.cost is not None:
            self.cost += answer.cost
        else:
            self.cost += self._price(answer.prompt_tokens, answer.completion_tokens)

    @property
    def spent(self) -> dict[str, float]:
        """What was paid so far, as JSON has it."""
        return {"tokens": self.tokens, "cost": self.cost}
