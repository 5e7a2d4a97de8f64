"""Settings of the standalone service: where it listens, and who may use it."""

from collections.abc import Iterator
from typing import ClassVar, Final

from attrs import frozen

from taskflow.settings import Checked, Choice, Text, WholeNumber, Words, option

_MIB: Final = 1_048_576
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


@frozen
class ApiSettings(Checked):
    """How the service is reached.

    Attributes:
        host: Address it listens on. Others than the loopback's need *keys*, or
            *access* to be ``open``. ``TASKFLOW_API_HOST``.
        port: Port it listens on, 0 to 65535; 0 = any that is free.
            ``TASKFLOW_API_PORT``.
        keys: Who is let in: ``NAME:LEVEL:SHA256``, separated by commas; made by
            ``taskflow api-key``. ``TASKFLOW_API_KEYS``.
        access: ``open``: everybody who reaches the service may do everything;
            ``keys``: only who shows a key. Left out: keys where there are some,
            else requests of this machine only, which may operate.
            ``TASKFLOW_ACCESS``.
        max_body_bytes: Largest body of a request, 1 KiB to 512 MiB.
            ``TASKFLOW_API_MAX_BODY_BYTES``.
        max_streams: Streams of events that may be open at once, 1 to 100,000.
            ``TASKFLOW_API_MAX_STREAMS``.
        max_streams_per_key: Of these, those of one key, or of one address where
            there are no keys, 1 to 100,000. ``TASKFLOW_API_MAX_STREAMS_PER_KEY``.
    """

    read_by: ClassVar[tuple[str, ...]] = ("api", "dashboard")

    host: str = option(
        "127.0.0.1",
        Text(r"[A-Za-z0-9_.:-]{1,253}", "an address such as 127.0.0.1 or 0.0.0.0"),
        "TASKFLOW_API_HOST",
    )
    port: int = option(8000, WholeNumber(0, 65535), "TASKFLOW_API_PORT")
    keys: tuple[str, ...] = option(
        (),
        Words(
            r"[A-Za-z0-9_.@-]{1,64}:(?:read|operate|admin):[0-9a-f]{64}",
            "entries NAME:LEVEL:SHA256 separated by commas, as 'taskflow api-key' "
            "makes them",
        ),
        "TASKFLOW_API_KEYS",
    )
    access: str | None = option(None, Choice(("open", "keys")), "TASKFLOW_ACCESS")
    max_body_bytes: int = option(
        4 * _MIB, WholeNumber(1024, 512 * _MIB, "bytes"), "TASKFLOW_API_MAX_BODY_BYTES"
    )
    max_streams: int = option(200, WholeNumber(1, 100_000), "TASKFLOW_API_MAX_STREAMS")
    max_streams_per_key: int = option(
        20, WholeNumber(1, 100_000), "TASKFLOW_API_MAX_STREAMS_PER_KEY"
    )

    def _conflicts(self) -> Iterator[str]:
        if self.access == "keys" and not self.keys:
            yield "TASKFLOW_ACCESS=keys needs TASKFLOW_API_KEYS to be set"
        if self.access == "open" and self.keys:
            yield "TASKFLOW_ACCESS=open and TASKFLOW_API_KEYS contradict one another"
        is_closed = self.access is None and not self.keys
        if is_closed and self.host not in LOOPBACK:
            yield (
                f"TASKFLOW_API_HOST={self.host!r} lets other machines in, and nothing "
                "says who may do what: set TASKFLOW_API_KEYS, or TASKFLOW_ACCESS=open "
                "to let everybody do everything"
            )
