"""What the browser's tests share: a page that is watched."""

from collections.abc import Callable
from urllib.parse import urlsplit

from attrs import define, field
from playwright.sync_api import Page

from tests.support.service import Process

PATIENCE = 10_000
"""Milliseconds within which the page has to come round."""

Serve = Callable[..., tuple[Process, str]]
"""Starts the service with arguments and environment; gives its address too."""


@define
class Watched:
    """A page, and what must not happen on it.

    Attributes:
        page: Of the browser.
        address: Where the dashboard is.
        allowed: Parts of messages that a test brings about on purpose.
    """

    page: Page
    address: str
    allowed: list[str] = field(factory=list)
    complaints: list[str] = field(factory=list)
    requests: list[str] = field(factory=list)

    def open(self, view: str = "#/") -> Page:
        """Open a view; give the page."""
        self.page.goto(f"{self.address}/{view}")
        return self.page

    def verify(self) -> None:
        """Refuse errors, warnings, and requests that left the service."""
        complaints = [
            text
            for text in self.complaints
            if not any(part in text for part in self.allowed)
        ]
        home = urlsplit(self.address)[:2]
        elsewhere = [url for url in self.requests if urlsplit(url)[:2] != home]

        assert ([], []) == (complaints, elsewhere)


Watch = Callable[..., Watched]
"""Makes a watched page for an address, with the options of a browser context."""
