"""What ``--app`` names, and what it is told when it names nothing."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from taskflow._client import doctor
from taskflow._settings import load_settings
from taskflow.cli.apps import App, load_app, refuse_name_clash
from taskflow.errors import ConfigurationError

HOST = """
from taskflow import Registry, TaskFlow

registry = Registry()
flow = TaskFlow("memory://", registry=registry)
number = 3

@registry.task(name="mail")
def mail() -> None: ...
"""


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in a folder with a host's module in it."""
    (tmp_path / "shop_app.py").write_text(HOST, encoding="utf-8")
    (tmp_path / "broken_app.py").write_text("import no_such_module_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("shop_app", None)


def load(path: str | None, url: str | None = None) -> App:
    """Load the app under *path*."""
    return load_app(path, url=url, prefix=None, settings=load_settings({}))


@pytest.mark.parametrize(
    ("path", "is_flow"),
    [("shop_app:flow", True), ("shop_app:registry", False), ("shop_app", True)],
)
def test_a_flow_or_a_registry_of_a_host_is_served(path: str, is_flow: bool) -> None:
    """Beside the default registry and every plugin."""
    app = load(path)

    assert {"mail", "summarize_text"} <= set(app.registry.names())
    assert is_flow == (repr(app.flow) == "<TaskFlow memory://>")
    assert ("summarize",) == app.plugins


def test_a_url_comes_before_the_apps_own() -> None:
    """The operator knows better where the server is."""
    app = load("shop_app:flow", url="redis://elsewhere")

    assert "<TaskFlow redis://elsewhere>" == repr(app.flow)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nowhere:flow", "there is no module 'nowhere' here"),
        (
            "shop_app:flwo",
            "'flwo' is no TaskFlow or Registry of 'shop_app'; there: 'flow', 'registry'",
        ),
        ("shop_app:number", "'number' is no TaskFlow or Registry"),
    ],
    ids=["module", "attribute", "kind"],
)
def test_what_is_not_there_is_answered_with_what_is(path: str, told: str) -> None:
    """One sentence."""
    with pytest.raises(ConfigurationError, match=told):
        load(path)


def test_an_import_that_fails_inside_the_app_is_not_hidden() -> None:
    """The app is there; what it needs is not."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        load("broken_app")


def test_openstacks_library_beside_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both own the same import package; one has overwritten the other."""
    monkeypatch.setattr(doctor, "version", lambda name: "6.5.0")
    with pytest.raises(ConfigurationError, match=r"'taskflow' 6\.5\.0 \(OpenStack's\)"):
        refuse_name_clash()

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    refuse_name_clash()
