"""The users of the shipped ACL file, on a server of ours."""

from typing import Any

from tests.support import ROOT

FILE = ROOT / "examples" / "deploy" / "redis" / "users.acl"
KINDS = {
    "worker": "taskflow-worker",
    "api": "taskflow-api",
    "reader": "taskflow-reader",
}


def lines() -> dict[str, list[str]]:
    """Read the rules of each user, by name."""
    found = (line.split() for line in FILE.read_text("utf-8").splitlines())
    return {words[1]: words[2:] for words in found}


def password(kind: str) -> str:
    """Give the password that stands in the file."""
    return next(each[1:] for each in lines()[KINDS[kind]] if each.startswith(">"))


def let_in(client: Any, prefix: str = "") -> None:
    """Make the users known to a server, for keys of a prefix."""
    for name, rules in lines().items():
        under = [
            each[0] + prefix + each[1:] if each[0] in "~&" else each for each in rules
        ]
        client.execute_command("ACL", "SETUSER", name, "reset", *under)


def as_user(url: str, kind: str) -> str:
    """Give the URL by which one of them comes in."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{KINDS[kind]}:{password(kind)}@{rest}"
