"""A declared function, one call of it, and a handle to a stored call."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from operator import attrgetter
from pickle import PicklingError
from typing import Any, Generic, Never, ParamSpec, TypeVar, cast

from attrs import field, frozen

from taskflow._codec import ArgumentsCodec, ResultCodec, Spec, encode_spec, unwrap
from taskflow._declare import ports
from taskflow._declare.context import Context
from taskflow._declare.duration import Seconds, problem_of, to_seconds
from taskflow._declare.hints import CALL_OPTIONS, attribute_hint, option_hint
from taskflow._declare.ports import TaskClient, TaskInfo
from taskflow._declare.retry_policy import RetryPolicy, count_problem
from taskflow._declare.upstream import weight_problem
from taskflow.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")
RetT_co = TypeVar("RetT_co", covariant=True)
ResT_co = TypeVar("ResT_co", covariant=True)


_LONGEST_KEY = 200


@frozen
class CallOptions:
    """What one call asks for beside the task's declaration.

    Attributes:
        delay: Seconds before the first run.
        key: Idempotency key; the same key and payload is the same task.
        key_ttl: Seconds for which a completed task or a dead letter holds the
            key; None = 24 h.
        expires: Seconds after which a call that still waits fails.
        max_retries: Failed attempts followed by another; None = the task's.
        timeout: Hard time limit in seconds; None = the task's.
        weight: Tokens of its upstream's rate limit; None = the task's.
        upstream: False for a call that does not need the task's upstream.
    """

    delay: float | None = field(default=None, converter=to_seconds)
    key: str | None = None
    key_ttl: float | None = field(default=None, converter=to_seconds)
    expires: float | None = field(default=None, converter=to_seconds)
    max_retries: int | None = None
    timeout: float | None = field(default=None, converter=to_seconds)
    weight: float | None = None
    upstream: bool = True

    def __attrs_post_init__(self) -> None:
        problems = (
            *(weight_problem(self.weight) if self.weight is not None else ()),
            *problem_of("delay", self.delay, zero=True),
            *problem_of("key_ttl", self.key_ttl, zero=True),
            *problem_of("expires", self.expires),
            *problem_of("timeout", self.timeout),
            *count_problem("max_retries", self.max_retries),
            *_key_problem(self.key),
        )
        if problems:
            raise ConfigurationError(problems)

    @property
    def is_plain(self) -> bool:
        """Whether the record needs nothing but what the task declares."""
        return self.max_retries is None and self.timeout is None


def _key_problem(key: object) -> tuple[str, ...]:
    if key is None or (
        isinstance(key, str) and 0 < len(key) <= _LONGEST_KEY and key.isprintable()
    ):
        return ()
    return (f"key must be 1 to 200 characters, no line break, got {key!r}",)


PLAIN = CallOptions()


@frozen
class Call(Generic[ResT_co]):
    """One call of a task: a value, not stored yet.

    Attributes:
        task: What is called.
        payload: Arguments by name, JSON.
        options: What this call asks for.
    """

    task: "Task[..., Any, ResT_co]"
    payload: bytes
    options: CallOptions = PLAIN

    @property
    def upstream(self) -> str:
        """Weight and name of the upstream that it needs, as stored; empty = none."""
        task, options = self.task, self.options
        if not task.upstream or not options.upstream:
            return ""
        weight = task.weight if options.weight is None else options.weight
        return f"{weight:.15g} {task.upstream}"


@frozen(eq=False, slots=False)
class Task(Generic[P, RetT_co, ResT_co]):
    """A declared function; calling it runs it in place, as before.

    Made by ``@taskflow.task``. ``RetT_co`` is what a direct call returns,
    ``ResT_co`` what the handle returns: they differ for coroutines.

    Like a function, a task is pickled and copied by reference, so the process
    that unpickles it must be able to import it. Unlike a function, it is no
    method: found on an instance, it is the task and not bound to it.

    Attributes:
        function: The body.
        name: Under which it is stored and registered.
        is_async: Whether the body is a coroutine function.
        retry: Its own policy, or None for the worker's.
        timeout: Hard time limit in seconds, or None for the worker's.
        soft_timeout: Soft time limit in seconds, or None for the worker's.
        dead_letter: Whether it becomes a dead letter when it has failed for
            good; FAILED otherwise.
        upstream: Name of the external service that it calls; empty = none.
        weight: Tokens of its upstream's rate limit that a run takes.
    """

    function: Callable[..., Any]
    name: str
    is_async: bool
    retry: RetryPolicy | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    dead_letter: bool = True
    upstream: str = ""
    weight: float = 1
    arguments: ArgumentsCodec = field(init=False, repr=False)
    result: ResultCodec = field(init=False, repr=False)
    spec: bytes = field(init=False, repr=False)
    call_options: CallOptions = field(default=PLAIN, repr=False)

    def __attrs_post_init__(self) -> None:
        arguments = ArgumentsCodec(self.function, self.name, Context)
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "result", ResultCodec(self.function, self.name))
        object.__setattr__(self, "spec", encode_spec(Spec(name=self.name)))
        body = unwrap(self.function)
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            object.__setattr__(self, name, getattr(body, name, None))
        object.__setattr__(self, "__wrapped__", self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> RetT_co:
        """Run the body here and now; a context that is not given is inert."""
        wanted = self.arguments.context_parameter
        if wanted is not None and not any(
            isinstance(value, Context) for value in (*args, *kwargs.values())
        ):
            made: dict[str, Any] = {wanted: Context(id="", name=self.name)}
            return self._bound_call(args, {**kwargs, **made})
        result: RetT_co = self.function(*args, **kwargs)
        return result

    def _bound_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RetT_co:
        names = self.arguments.positional
        named = dict(zip(names, args, strict=False))
        result: RetT_co = self.function(*args[len(names) :], **named, **kwargs)
        return result

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[ResT_co]:
        """Make a call of this task, to be enqueued.

        Returns:
            A value; nothing is stored.

        Raises:
            PayloadError: The arguments do not fit; says where.
        """
        return Call(self, self.arguments.encode(args, kwargs), self.call_options)

    def call_from_json(self, arguments: Mapping[str, Any]) -> Call[ResT_co]:
        """Make a call of this task from arguments by name, as JSON has them.

        For what comes over the wire or from a shell; `call` is the typed way.

        Args:
            arguments: Values that ``json.loads`` gives; a context is left out.

        Returns:
            A value; nothing is stored.

        Raises:
            PayloadError: The task would not take them; says where.

        Example:
            >>> import taskflow
            >>> registry = taskflow.Registry()
            >>> @registry.task(name="add")
            ... def add(x: int, y: int) -> int:
            ...     return x + y
            >>> add.call_from_json({"x": 2, "y": 3}) == add.call(2, 3)
            True
        """
        payload = self.arguments.from_jsonable(dict(arguments))
        return Call(self, payload, self.call_options)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> "TaskHandle[ResT_co]":
        """Store a call, blocking; see ``TaskFlow.enqueue``.

        It goes to the flow whose registry has this task; to the one chosen with
        ``taskflow.use`` where several have it, or none.

        Returns:
            A handle to the stored task.

        Raises:
            PayloadError: The arguments do not fit; nothing was stored.
            ConfigurationError: No flow has the task, or several have it.
            KeyConflictError: The key is held by another payload.
            ServerError: The server did not take it.
        """
        handle: TaskHandle[ResT_co] = ports.client_of(self).enqueue(
            self.call(*args, **kwargs)
        )
        return handle

    async def aenqueue(
        self, *args: P.args, **kwargs: P.kwargs
    ) -> "TaskHandle[ResT_co]":
        """Store a call; see `enqueue`."""
        handle: TaskHandle[ResT_co] = await ports.client_of(self).aenqueue(
            self.call(*args, **kwargs)
        )
        return handle

    def options(
        self,
        *,
        delay: Seconds | None = None,
        key: str | None = None,
        key_ttl: Seconds | None = None,
        expires: Seconds | None = None,
        max_retries: int | None = None,
        timeout: Seconds | None = None,
        weight: float | None = None,
        upstream: bool = True,
        **unknown: Never,
    ) -> "Task[P, RetT_co, ResT_co]":
        """Return this task with options for the calls made through it.

        Args:
            delay: Seconds before the first run. This and the other durations
                may be a timedelta.
            key: Idempotency key, unique within the task: while a task waits or
                runs, and for *key_ttl* after it has completed or become a dead
                letter, the same payload is that task, even if its record is
                gone by then (``RESULT_TTL``). A failed or cancelled task holds
                no key.
            key_ttl: Seconds; left out: 24 h.
            expires: Seconds after which a call that still waits is FAILED.
            max_retries: Failed attempts that are followed by another.
            timeout: Hard time limit in seconds.
            weight: Tokens of its upstream's rate limit that the run takes, from 0;
                left out: the task's.
            upstream: False where the call does not need the task's upstream, and
                shall not wait for it.
            **unknown: Refused, with what to use instead.

        Returns:
            A task to call; the declared one is unchanged.

        Raises:
            ConfigurationError: A value is out of bounds, or the waits of *max_retries*
                do not fit in the ``max_age`` of the task's policy.
        """
        for name in unknown:
            raise ConfigurationError(option_hint(name, CALL_OPTIONS))
        chosen = CallOptions(
            delay, key, key_ttl, expires, max_retries, timeout, weight, upstream
        )
        policy = self.retry
        if policy is not None and policy.max_age is not None and max_retries:
            problems = policy.age_problem(max_retries, policy.max_age)
            if problems:
                raise ConfigurationError(problems)
        return self._with(chosen)

    def _with(self, options: CallOptions) -> "Task[P, RetT_co, ResT_co]":
        # Not attrs.evolve: the codecs are built once for a function.
        twin: Task[P, RetT_co, ResT_co] = object.__new__(type(self))
        vars(twin).update(vars(self), call_options=options)
        return twin

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        module = getattr(self, "__module__", None)
        name = getattr(self, "__qualname__", None)
        try:
            found = self._find(module, name, PLAIN)
        except (ImportError, AttributeError, TypeError, ValueError):
            found = None
        if found is None or found.function is not self.function:
            message = f"task {self.name!r} cannot be imported as {module}.{name}"
            raise PicklingError(message)
        return Task._find, (module, name, self.call_options)

    @staticmethod
    def _find(
        module: Any, name: Any, options: CallOptions
    ) -> "Task[..., Any, Any] | None":
        found: Any = attrgetter(name)(import_module(module))
        if not isinstance(found, Task):
            return None
        task = cast("Task[..., Any, Any]", found)
        return task if options == PLAIN else task._with(options)  # noqa: SLF001 - our own

    def __copy__(self) -> "Task[P, RetT_co, ResT_co]":
        return self

    def __deepcopy__(self, memo: object) -> "Task[P, RetT_co, ResT_co]":
        return self

    def check(self) -> None:
        """Refuse annotations that cannot be supported.

        Raises:
            ConfigurationError: Names the parameter and what is wrong.
        """
        self.arguments.check()
        self.result.check()


def no_call(given: object) -> str:
    """Say what *given* is where a `Call` belongs, and the way out."""
    if isinstance(given, Task):
        told = f"task {given.name!r} itself"
    elif inspect.iscoroutine(given):
        given.close()  # it would warn that nobody awaits it
        told = f"a call of {given.__qualname__} in place"
    else:
        told = f"{given!r:.100}"
    return (
        f"enqueue takes what task.call(...) makes, got {told}; task(...) runs it here"
    )


def _refuse_attribute(task: object, name: str) -> Any:
    """Refuse *name*; say what to use if another library has it."""
    known: str = vars(task).get("name", "")
    told = attribute_hint(known, name) or f"task {known!r} has no {name!r}"
    raise AttributeError(told, name=name, obj=task)


# Not in the class, where type checkers would take it for leave to use any name.
type.__setattr__(Task, "__getattr__", _refuse_attribute)


class TaskHandle(Generic[ResT_co]):
    """A stored call: ask how it goes, wait for it, stop it.

    Attributes:
        id: Of the task.
        name: Of the declared function.
        created: False when the call's key was held already, by this task.
    """

    def __init__(
        self,
        client: TaskClient,
        task_id: str,
        task: Task[..., Any, ResT_co],
        *,
        created: bool,
    ) -> None:
        self.id: str = task_id
        self.name: str = task.name
        self.created: bool = created
        self._client = client
        self._task = task

    def result(self, timeout: Seconds | None = None) -> ResT_co:
        """Block until the task has ended and return its result.

        Args:
            timeout: Seconds or a timedelta to wait at most; None = for ever,
                0 = look once.

        Returns:
            What the body returned.

        Raises:
            TaskFailedError: It ended without a result.
            ResultTimeoutError: It has not ended; it goes on all the same.
            TaskNotFoundError: It was deleted, or kept no longer.
        """
        value: ResT_co = self._client.result(
            self.id, self._task.result.decode, to_seconds(timeout)
        )
        return value

    async def aresult(
        self,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - the blocking twin has it too
    ) -> ResT_co:
        """Wait until the task has ended and return its result; see `result`."""
        value: ResT_co = await self._client.aresult(
            self.id, self._task.result.decode, to_seconds(timeout)
        )
        return value

    def info(self) -> TaskInfo:
        """Read the task as it stands.

        Returns:
            The record.

        Raises:
            TaskNotFoundError: It was deleted, or kept no longer.
        """
        return self._client.info(self.id)

    async def ainfo(self) -> TaskInfo:
        """Read the task as it stands; see `info`."""
        return await self._client.ainfo(self.id)

    def cancel(self) -> bool:
        """Stop the task.

        Returns:
            True when it is CANCELLED now, False when it runs and was asked.

        Raises:
            TaskNotFoundError: It was deleted, or kept no longer.
            IllegalMoveError: It has ended already.
        """
        return self._client.cancel(self.id)

    async def acancel(self) -> bool:
        """Stop the task; see `cancel`."""
        return await self._client.acancel(self.id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self.name} {self.id}>"
