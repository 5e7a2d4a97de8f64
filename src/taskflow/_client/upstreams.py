"""The upstreams: how they stand; open, close and reset them for the whole fleet."""

import builtins

from taskflow._client.flow_context import FlowContext
from taskflow._client.sansio import Plan, one
from taskflow._declare.duration import Seconds, problem_of, to_seconds
from taskflow._declare.upstream import NAME_PATTERN
from taskflow._protocol import upstreams
from taskflow._protocol.upstreams import SteerVerb, UpstreamStatus
from taskflow.errors import ConfigurationError, UpstreamNotFoundError

_HOLD = "task:"
_LONGEST_REASON = 500


class Upstreams:
    """The external services that tasks call, as the workers declared them.

    The name ``task:NAME`` stands for the tasks of one name: opened, they are held
    back; closed, they go on.
    """

    def __init__(self, connection: FlowContext) -> None:
        self._connection = connection

    def _status(self, name: str = "") -> "Plan[builtins.list[UpstreamStatus]]":
        connection = self._connection
        return one(upstreams.status(connection.keys, name, now_ms=connection.clock()))

    def _get(self, name: str) -> Plan[UpstreamStatus]:
        found = yield from self._status(_checked(name))
        if not found:
            raise UpstreamNotFoundError(name)
        return found[0]

    def _set(
        self,
        name: str | None,
        verb: SteerVerb,
        reason: str = "",
        expires: Seconds | None = None,
    ) -> Plan[tuple[str, ...]]:
        seconds = to_seconds(expires)
        problems = problem_of("expires", seconds)
        if problems:
            raise ConfigurationError(problems)
        if name is None:
            known = yield from self._status()
            names = [
                each.name
                for each in known
                if verb != "open" or not each.name.startswith(_HOLD)
            ]
        else:
            names = [_checked(name)]
        connection = self._connection
        changed: list[str] = []
        for each in names:
            done = yield upstreams.set_upstream(
                connection.keys,
                each,
                verb,
                reason=" ".join(reason.split())[:_LONGEST_REASON],
                expires_ms=round(seconds * 1000) if seconds else 0,
                now_ms=connection.clock(),
            )
            if done or verb == "reset":
                changed.append(each)
        return tuple(changed)

    def status(self) -> "builtins.list[UpstreamStatus]":
        """Read how all upstreams stand.

        Returns:
            About 200 at most, by name. One is known once a worker has declared it.
        """
        return self._connection.run(self._status())

    async def astatus(self) -> "builtins.list[UpstreamStatus]":
        """Read how all upstreams stand; see `status`."""
        return await self._connection.arun(self._status())

    def get(self, name: str) -> UpstreamStatus:
        """Read how one upstream stands.

        Returns:
            Its state, its limits and what waits for it.

        Raises:
            UpstreamNotFoundError: None of this name is known.
        """
        return self._connection.run(self._get(name))

    async def aget(self, name: str) -> UpstreamStatus:
        """Read how one upstream stands; see `get`."""
        return await self._connection.arun(self._get(name))

    def force_open(
        self,
        name: str | None = None,
        *,
        reason: str = "",
        expires: Seconds | None = None,
    ) -> tuple[str, ...]:
        """Let no call of an upstream begin; its tasks wait parked.

        In force for the next claim of every worker, and for guards in bodies within
        250 ms. It outlives a restart of the server as the tasks do.

        Args:
            name: Of the upstream, or ``task:NAME``; None = all that are known.
            reason: For people, shown wherever it stands.
            expires: Seconds or a timedelta until a call may try it again; None =
                until somebody closes it.

        Returns:
            The names that were opened.

        Raises:
            UpstreamNotFoundError: None of this name is known.
            ConfigurationError: *expires* or the name is out of bounds.
        """
        return self._connection.run(self._set(name, "open", reason, expires))

    async def aforce_open(
        self,
        name: str | None = None,
        *,
        reason: str = "",
        expires: Seconds | None = None,
    ) -> tuple[str, ...]:
        """Let no call of an upstream begin; see `force_open`."""
        return await self._connection.arun(self._set(name, "open", reason, expires))

    def force_close(self, name: str | None = None) -> tuple[str, ...]:
        """Let calls begin again: close the breaker, open the tap.

        What is parked comes back slowly at first.

        Args:
            name: Of the upstream, or ``task:NAME``; None = all that are known.

        Returns:
            The names of those that were shut.

        Raises:
            UpstreamNotFoundError: None of this name is known.
        """
        return self._connection.run(self._set(name, "close"))

    async def aforce_close(self, name: str | None = None) -> tuple[str, ...]:
        """Let calls begin again; see `force_close`."""
        return await self._connection.arun(self._set(name, "close"))

    def reset(self, name: str | None = None) -> tuple[str, ...]:
        """As `close`, and forget what was counted: failures, tokens, permits.

        Args:
            name: Of the upstream, or ``task:NAME``; None = all that are known.

        Returns:
            The names that were reset.

        Raises:
            UpstreamNotFoundError: None of this name is known.
        """
        return self._connection.run(self._set(name, "reset"))

    async def areset(self, name: str | None = None) -> tuple[str, ...]:
        """Close it, and forget what was counted; see `reset`."""
        return await self._connection.arun(self._set(name, "reset"))


def _checked(name: str) -> str:
    if not NAME_PATTERN.fullmatch(name.removeprefix(_HOLD)):
        raise UpstreamNotFoundError(name)
    return name
