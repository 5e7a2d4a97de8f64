"""``taskflow doctor``: what loses tasks, before it does."""

from typing import Any, Final

import click

from taskflow._client.finding import Finding
from taskflow._client.flow import TaskFlow
from taskflow._declare.plugins import load_plugins
from taskflow._declare.registry import Registry
from taskflow.cli import text
from taskflow.cli.options import json_option, with_flow
from taskflow.errors import PluginError

_COLOURS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@click.command("doctor")
@click.option("--strict", is_flag=True, help="A warning fails, too.")
@click.option(
    "--repair", is_flag=True, help="Mend what is not in its one home, or torn."
)
@json_option
@with_flow
def doctor_command(flow: TaskFlow, *, strict: bool, repair: bool, as_json: bool) -> int:
    """Check what loses tasks before it does, and prove where every record stands.

    Ends with 1 when something is an error; with --strict, when something is a
    warning, too. Writes nothing without --repair; with it, brings back what
    stands in no home, removes entries that are too many, puts right what a record
    says that cannot be, and says what it did. Workers may go on meanwhile.
    """  # noqa: DOC201 - this text is the command's help
    findings = [_plugins(), *flow.doctor(repair=repair)]
    failing = {"error", "warning"} if strict else {"error"}
    code = int(any(finding.severity in failing for finding in findings))
    if as_json:
        shown = [_shape(finding) for finding in findings]
        text.as_json({"healthy": not code, "findings": shown})
        return code
    longest = max(len(finding.check) for finding in findings)
    for finding in findings:
        word = click.style(f"{finding.severity:<7}", fg=_COLOURS.get(finding.severity))
        click.echo(f"{word}  {finding.check:<{longest}}  {text.clean(finding.what)}")
        if finding.do:
            click.echo(f"{'':<{longest + 11}}do: {text.clean(finding.do)}")
    return code


def _plugins() -> Finding:
    try:
        loaded = load_plugins(Registry())
    except PluginError as error:
        return Finding("plugins", "error", str(error), "mend it, or uninstall it")
    names = ", ".join(plugin.name for plugin in loaded) or "none is installed"
    return Finding("plugins", "ok", names)


def _shape(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity,
        "what": finding.what,
        "do": finding.do,
    }
