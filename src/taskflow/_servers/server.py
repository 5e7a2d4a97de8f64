"""The contract: a URL becomes a server, and a server gives runners.

A server is a place that keeps tasks and can show itself without its password;
whether it is a network address, a process of this machine or a dictionary in
memory is its own business. Beside this file stand the implementations, one for
each kind of URL, and ``opening.py``, which chooses.
"""

from abc import ABC, abstractmethod

from taskflow._servers.route import Route
from taskflow._servers.runner import PATIENCE, AsyncRunner, SyncRunner


class Server(ABC):
    """Where tasks are kept.

    Attributes:
        display: Its URL, the password masked.
        shared: Whether other processes can reach it.
        replicates: Whether it may have replicas.
        place: Where it was last found, if others have to be asked where it is.
    """

    display: str
    shared: bool = True
    replicates: bool = False

    @property
    def place(self) -> str:
        """Where it was last found, if others have to be asked; else empty."""
        return ""

    @abstractmethod
    def runner(self, *, patience: float = PATIENCE) -> SyncRunner:
        """Make a runner that blocks.

        Args:
            patience: Seconds for which what got no answer is sent again.

        Raises:
            ServerUnavailableError: The server cannot be started.
        """

    @abstractmethod
    def async_runner(self, *, patience: float = PATIENCE) -> AsyncRunner:
        """Make a runner for the running event loop.

        Args:
            patience: Seconds for which what got no answer is sent again.

        Raises:
            ServerUnavailableError: The server cannot be started.
        """

    def route(self) -> Route | None:
        """Tell how another process reaches the server without this library.

        Returns:
            The route; None where there is none, or it is not known yet.
        """
        return None

    @abstractmethod
    def erase(self) -> None:
        """Delete all data of the server: every database, whoever it belongs to.

        Raises:
            ServerError: It did not do that.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the server; harmless when done twice."""
