"""A document of any length to a summary by a model: in one call, or part by part.

What fits the model's window is asked for in one call. What does not is split at
ends of sentences, each part is summarised (*map*), and a summary of the summaries
is written (*reduce*); where these do not fit either, they are summarised in groups
first, a few times at most. A text of more parts than are paid for is condensed to
its most central sentences before.
"""

import asyncio
import hashlib
import json
from typing import Final

from attrs import asdict, evolve, field, frozen

from taskflow import Context
from taskflow_summarize._chunking import split_text
from taskflow_summarize._failed import choose_error, find_error
from taskflow_summarize._ledger import Ledger
from taskflow_summarize._progress import Emitter, Finished, Meter
from taskflow_summarize._prompt import (
    PROMPT_VERSION,
    Wish,
    answer_schema,
    completion_budget,
    estimate_tokens,
    make_messages,
    scrub,
)
from taskflow_summarize._provider import Completion, CompletionRequest, ModelProvider
from taskflow_summarize._providers.extractive import extract
from taskflow_summarize._text.words import count_words
from taskflow_summarize._upstream import OPENROUTER
from taskflow_summarize.errors import (
    EmptyAnswerError,
    ProviderError,
    SummarizeError,
    TextTooLongError,
)

MOST_PARTS: Final = 64
_MOST_ROUNDS: Final = 4
_SHRINKS: Final = 0.7  # of its length, at most, that a round may leave
_FEWEST_WORDS: Final = 60  # of a part's summary
_WINDOW_SHARE: Final = 0.5  # of the model's window that the text may take
_SMALLEST_PART: Final = 200  # tokens
_TOO_LITTLE: Final = 2  # times the tokens, once, for an answer that they cut short

# For a call's turn. The service may have asked for hours of silence: the task is
# parked for them, with what is finished, and its worker is free.
_PATIENCE: Final = 30.0  # seconds


@frozen
class Sizes:
    """How a long document is divided.

    Attributes:
        part_tokens: Most tokens of one part.
        single_tokens: Most tokens of a text that is summarised in one call.
        concurrency: Calls at a time.
    """

    part_tokens: int
    single_tokens: int
    concurrency: int


@frozen
class Written:
    """What a model wrote of a document.

    Attributes:
        answer: The last answer, as it came.
        strategy: ``single``, ``map_reduce`` or ``hybrid``.
        parts: How many the document was divided into.
        models: Those that answered, in alphabetical order.
        generation_ids: The provider's names for the answers of this attempt.
    """

    answer: Completion
    strategy: str
    parts: int
    models: tuple[str, ...] = ()
    generation_ids: tuple[str, ...] = field(default=())


class Writer:
    """Has a model write the summary of one document."""

    def __init__(
        self,
        ctx: Context,
        model: ModelProvider,
        wish: Wish,
        sizes: Sizes,
        ledger: Ledger,
        finished: Finished,
    ) -> None:
        self._ctx = ctx
        self._model = model
        self._wish = wish
        self._sizes = sizes
        self._ledger = ledger
        self._finished = finished
        self._meter = Meter(ctx)
        self._models: set[str] = set()
        self._generation_ids: list[str] = []
        self._source = ""

    async def write(self, text: str, language: str | None) -> Written:
        """Summarise *text*.

        Args:
            text: The document.
            language: Its code, or None.

        Returns:
            What the model wrote.

        Raises:
            ProviderError: There is no summary; what is finished is kept.
            BudgetExceededError: It would cost more than it may.
        """
        self._source = text
        try:
            return await self._write(text, language, self._sizes)
        except Exception as error:
            if find_error(error, TextTooLongError) is None:
                raise
            # Its window is smaller than it was said to be.
            half = evolve(
                self._sizes,
                part_tokens=max(_SMALLEST_PART, self._sizes.part_tokens // 2),
                single_tokens=0,
            )
            return await self._write(text, language, half)

    async def _write(self, text: str, language: str | None, sizes: Sizes) -> Written:
        window = int(self._model.context_tokens * _WINDOW_SHARE)
        if estimate_tokens(text) <= min(sizes.single_tokens, window):
            self._meter.plan(1)
            return self._written(await self._last(text, language), "single", 1)
        most = max(_SMALLEST_PART, min(sizes.part_tokens, window))
        parts, strategy = await asyncio.to_thread(_divide, text, most, language)
        if len(parts) == 1:
            self._meter.plan(1)
            return self._written(await self._last(parts[0], language), "single", 1)
        texts = await self._map(parts, language, sizes.concurrency)
        joined = await self._collapse(texts, most, language, sizes.concurrency)
        self._meter.plan(1)
        answer = await self._last(joined, language, is_joined=True)
        return self._written(answer, strategy, len(parts))

    def _written(self, answer: Completion, strategy: str, parts: int) -> Written:
        return Written(
            answer,
            strategy,
            parts,
            tuple(sorted(self._models)),
            tuple(self._generation_ids),
        )

    async def _map(
        self, parts: list[str], language: str | None, concurrency: int
    ) -> list[str]:
        """Summarise each part; when one fails, those underway are finished first."""
        words = max(_FEWEST_WORDS, int(self._wish.words * 1.5 / len(parts)))
        wish = evolve(
            self._wish, max_words=words, style="paragraph", language=None, key_points=0
        )
        asked = [
            self._prepare(part, wish, language, number=(place, len(parts)))
            for place, part in enumerate(parts, 1)
        ]
        self._foresee(asked)
        self._meter.plan(len(parts))
        gate = asyncio.Semaphore(concurrency)
        texts = [""] * len(parts)
        errors: list[Exception] = []

        async def one(place: int, name: str, request: CompletionRequest) -> None:
            async with gate:
                if errors:
                    return
                try:
                    answer = await self._ask(name, request)
                except Exception as error:  # noqa: BLE001 - raised below
                    errors.append(error)
                else:
                    texts[place] = answer.text
                    self._meter.step(f"part {place + 1} of {len(parts)}")

        await asyncio.gather(*(one(place, *each) for place, each in enumerate(asked)))
        try:
            if errors:
                raise choose_error(errors)
        finally:
            errors.clear()  # one would hold this frame, and so itself
        return texts

    async def _collapse(
        self, texts: list[str], most: int, language: str | None, concurrency: int
    ) -> str:
        """Bring summaries of parts to a length that one call can read."""
        joined = "\n\n".join(texts)
        for _ in range(_MOST_ROUNDS):
            tokens = estimate_tokens(joined)
            if tokens <= most:
                return joined
            groups = split_text(joined, most_tokens=most, language=language)
            shorter = "\n\n".join(await self._map(groups, language, concurrency))
            if estimate_tokens(shorter) > _SHRINKS * tokens:
                break
            joined = shorter
        if estimate_tokens(joined) > most:
            joined = await asyncio.to_thread(_condense, joined, most)
        return joined

    async def _last(
        self, text: str, language: str | None, *, is_joined: bool = False
    ) -> Completion:
        """Write the summary that is shown, as it is written."""
        emitter = None
        if not self._wish.key_points:
            emitter = Emitter(self._ctx, lambda piece: scrub(piece, self._source))
        name, request = self._prepare(text, self._wish, language, is_joined=is_joined)
        answer = await self._ask(name, request, emitter)
        self._meter.step("written")
        return answer

    @staticmethod
    def _prepare(
        text: str,
        wish: Wish,
        language: str | None,
        *,
        number: tuple[int, int] | None = None,
        is_joined: bool = False,
    ) -> tuple[str, CompletionRequest]:
        """Write the request for one summary, and the name of its answer."""
        messages = make_messages(
            text, wish, language=language, part=number, is_joined=is_joined
        )
        budget = completion_budget(wish.words, wish.key_points)
        schema = answer_schema(wish.key_points) if wish.key_points else None
        name = _name_of(wish, messages[1]["content"])
        return name, CompletionRequest(messages, budget, schema)

    def _foresee(self, asked: list[tuple[str, CompletionRequest]]) -> None:
        """Pay for no part where reading all of them would be too much already."""
        new = [request for name, request in asked if self._finished.get(name) is None]
        self._ledger.foresee(sum(map(_tokens_of, new)))

    async def _ask(
        self, name: str, request: CompletionRequest, emitter: Emitter | None = None
    ) -> Completion:
        """Ask for one summary, unless it was paid for already."""
        known = self._finished.get(name)
        if known is not None:
            if known.model:
                self._models.add(known.model)
            if emitter is not None:
                emitter.write(known.text)
                emitter.flush()
            return known
        try:
            answer = await self._answer(request, emitter)
        except Exception as error:
            if find_error(error, SummarizeError) is not None:
                await self._finished.note(self._ledger.spent)
            raise
        await self._finished.put(name, answer, self._ledger.spent)
        return answer

    async def _answer(
        self, request: CompletionRequest, emitter: Emitter | None
    ) -> Completion:
        """Ask, and once more with more tokens where they ended too early."""
        try:
            answer = await self._complete(request, emitter)
            if not answer.is_truncated or emitter is not None:
                return answer
        except Exception as error:
            empty = find_error(error, EmptyAnswerError)
            if empty is None or not empty.is_truncated:
                raise
        longer = evolve(request, max_tokens=request.max_tokens * _TOO_LITTLE)
        return await self._complete(longer, emitter)

    async def _complete(
        self, request: CompletionRequest, emitter: Emitter | None
    ) -> Completion:
        held = self._ledger.hold(_tokens_of(request), request.max_tokens)
        try:
            async with OPENROUTER.guard(timeout=_PATIENCE):
                answer = await self._model.complete(
                    request, on_text=emitter.write if emitter is not None else None
                )
        except Exception as error:
            billed = find_error(error, ProviderError)
            if billed is not None and billed.is_billed:
                self._pay(
                    Completion(
                        "",
                        prompt_tokens=billed.prompt_tokens,
                        completion_tokens=billed.completion_tokens,
                        cost=billed.cost,
                    )
                )
            raise
        finally:
            self._ledger.release(held)
            if emitter is not None:
                emitter.flush()
        self._pay(answer)
        return answer

    def _pay(self, answer: Completion) -> None:
        self._ledger.pay(answer)
        if answer.model:
            self._models.add(answer.model)
        if answer.generation_id:
            self._generation_ids.append(answer.generation_id)
        amounts: dict[str, float] = {
            "calls": 1,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        if answer.reasoning_tokens:
            amounts["reasoning_tokens"] = answer.reasoning_tokens
        if answer.cost is not None:
            amounts["cost"] = answer.cost
        self._ctx.usage(**amounts)


def _tokens_of(request: CompletionRequest) -> int:
    return sum(estimate_tokens(each["content"]) for each in request.messages)


def _name_of(wish: Wish, content: str) -> str:
    """Name an answer by all that it depends on."""
    facts = json.dumps([PROMPT_VERSION, asdict(wish), content], ensure_ascii=False)
    return hashlib.sha256(facts.encode()).hexdigest()[:24]


def _divide(text: str, most: int, language: str | None) -> tuple[list[str], str]:
    """Split *text*; one of too many parts is condensed region by region."""
    parts = split_text(text, most_tokens=most, language=language)
    if len(parts) <= MOST_PARTS:
        return parts, "map_reduce"
    region = -(-estimate_tokens(text) // (MOST_PARTS * 4 // 5))
    regions = split_text(text, most_tokens=region, language=language)
    return [_condense(each, most) for each in regions], "hybrid"


def _condense(text: str, most: int) -> str:
    """Keep the most central sentences of *text*, as many as fit."""
    tokens = estimate_tokens(text)
    words = max(1, int(count_words(text) * 0.9 * most / max(1, tokens)))
    short = extract(text, max_words=words).text
    return split_text(short, most_tokens=most)[0]
