"""Who is let in where there are no keys: this machine, and who has the link.

A request of this machine may operate, as the commands of this machine may. A proxy on
this machine makes every stranger's request look like one, so a request with any sign
of a proxy is refused. Who opens the link that ``taskflow dashboard`` prints may do
everything: only who can read that terminal has it. The link works once; what it leaves
in the browser is a cookie that no script can read and no other site's page can use.
"""

import hashlib
import re
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from taskflow_summarize._api_settings import LOOPBACK
from taskflow_summarize.routers._access import Grant, Level

TOKEN: Final = "token"  # noqa: S105 - the name of a parameter

_MOST_SESSIONS: Final = 32
_LOCAL_HOST: Final = re.compile(
    r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII
)
_OF_PROXIES: Final = re.compile(
    # What standards have, and names that say what they are.
    r"forwarded|via|max-forwards|proxy-.*|cdn-loop|.*forwarded.*|.*-proxy-.*"
    r"|.*(?:client|real|remote|originating|connecting|peer|source)[-_]?(?:ip|addr.*)"
    r"|x-(?:original|rewrite|real|cluster|remote|scheme|host|url-scheme|ssl|tls)"
    r"(?:-.*)?|x-client-(?:port|proto|cert.*|dn|verify)|(?:ssl|tls)-client-.*|x-request-start|x-queue-start|front-end-https"
    r"|x-auth-request-.*|remote-(?:user|email|groups)|x-remote-.*|x-proxy.*"
    # Of vendors.
    r"|cf-.*|x-amz.*|x-envoy-.*|fly-.*|x-azure-.*|x-arr-.*|x-waws-.*|x-ms-.*"
    r"|disguised-host|was-default-hostname|x-appengine-.*|x-cloud-trace-context"
    r"|x-goog-.*|x-google-.*|x-vercel-.*|x-nf-.*|x-railway-.*|x-render-.*|x-heroku-.*"
    r"|x-akamai-.*|akamai-.*|x-edge-.*|fastly-.*|x-fastly-.*|x-varnish.*|x-sucuri-.*"
    r"|incap-.*|x-incap-.*|cloudfront-.*|x-bunny-.*|x-cdn.*|x-nginx-.*|x-kong-.*"
    r"|x-consumer-.*|x-traefik-.*|x-istio-.*|l5d-.*|x-haproxy-.*"
    r"|x-served-by|x-gateway-.*|x-apigee-.*|x-backend-.*|x-lb-.*|x-iis-.*|x-coming-from"
    r"|ngrok-.*|x-ngrok-.*|tailscale-.*|x-replit-.*|x-github-.*|x-gitpod-.*"
    r"|x-coder-.*|x-jupyterhub-.*|x-authentik-.*|x-authelia-.*|x-pomerium-.*"
    r"|k-proxy-.*|x-dapr-.*|x-zscaler-.*|x-bluecoat-.*|wl-proxy-.*|true-client-.*"
)
_WAY_OUT: Final = (
    "set TASKFLOW_API_KEYS, which 'taskflow api-key' makes entries for, or say "
    "TASKFLOW_ACCESS=open"
)


def sign_of_a_proxy(request: Request) -> str:
    """Say what shows that *request* was not made on this machine to this machine.

    Args:
        request: Its client, its version of HTTP and its headers are looked at.

    Returns:
        What follows ``the request``; empty where nothing shows it.
    """
    client = request.client.host if request.client else ""
    for name in request.headers:
        if _OF_PROXIES.fullmatch(name):
            return f"has the header {name[:40]!r}, which proxies set"
    if client not in LOOPBACK:
        return "comes from another machine"
    if request.scope.get("http_version") in {"0.9", "1.0"}:
        return "is of HTTP/1.0, which proxies speak"
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not _LOCAL_HOST.fullmatch(hosts[0]):
        return "was made to another name than localhost, 127.0.0.1 or [::1]"
    return ""


class LocalAccess:
    """An access function for a service without keys; see the head of this module."""

    def __init__(self) -> None:
        self.on_new_link: Callable[[str], None] = _ignore
        self._token = ""
        self._sessions: deque[str] = deque(maxlen=_MOST_SESSIONS)

    def __call__(self, request: Request) -> Grant:
        """Say what *request* may do."""
        sign = sign_of_a_proxy(request)
        if sign:
            told = f"without keys only this machine is let in, and the request {sign}"
            return Grant(Level.NONE, why=f"{told}: {_WAY_OUT}")
        if self._is_signed_in(request):
            return Grant(Level.ADMIN)
        told = "open the link that 'taskflow dashboard' prints, or show a key"
        return Grant(Level.OPERATE, why=f"{told} of TASKFLOW_API_KEYS")

    def new_link(self, page: str) -> str:
        """Make the link that works next; the one before it works no longer.

        Args:
            page: The address of the dashboard's page.

        Returns:
            The link.
        """
        token = secrets.token_urlsafe(32)
        self._token = _digest(token)
        return f"{page}?{TOKEN}={token}"

    def sign_in(self, request: Request) -> Response | None:
        """Exchange the token of a link for a cookie.

        Args:
            request: For the page.

        Returns:
            What to answer; None where *request* shows no token.
        """
        token = request.query_params.get(TOKEN)
        if token is None or request.method != "GET":
            return None
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        grant = self(request)
        if grant.level is Level.NONE:
            return PlainTextResponse(grant.why, 401, headers)
        answer = RedirectResponse("./", 303, headers)
        if grant.level is Level.ADMIN:
            return answer  # signed in already; the token stays for another browser
        if not secrets.compare_digest(_digest(token), self._token):
            told = (
                "This link has been used, or is of an earlier run. The terminal of "
                "'taskflow dashboard' shows the one that works now."
            )
            return PlainTextResponse(told, 401, headers)
        session = secrets.token_urlsafe(32)
        self._sessions.append(_digest(session))
        answer.set_cookie(
            _cookie(request), session, httponly=True, samesite="strict", path="/"
        )
        self.on_new_link(self.new_link(str(request.url.replace(query="", fragment=""))))
        return answer

    def _is_signed_in(self, request: Request) -> bool:
        shown = request.cookies.get(_cookie(request))
        if shown is None:
            return False
        digest = _digest(shown)
        return any(secrets.compare_digest(digest, each) for each in self._sessions)


def _cookie(request: Request) -> str:
    # Browsers keep the cookies of all ports of a machine together.
    server = request.scope.get("server") or ("", 0)
    return f"taskflow-session-{server[1]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _ignore(link: str) -> None:
    """Tell nobody; who serves the page may."""
