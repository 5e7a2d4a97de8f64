"""What ``--app`` names, and what it is told when it names nothing."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import taskflow
from taskflow import Registry
from taskflow._client import doctor
from taskflow._client import flow as flows
from taskflow._declare import registry as registries
from taskflow._settings import load_settings
from taskflow.cli import app_loading
from taskflow.cli.app_loading import App, load_app, refuse_name_clash
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


@pytest.fixture
def package(tmp_path: Path) -> Iterator[None]:
    """Put a host's package there, whose tasks are in modules below it."""
    files = {
        "store/__init__.py": "",
        "store/flow.py": "import taskflow\nflow = taskflow.TaskFlow('memory://')\n",
        "store/tasks.py": _task("store.mail"),
        "store/orders/__init__.py": "",
        "store/orders/tasks.py": _task("store.ship"),
        "store/orders/models.py": "raise AssertionError('imported')\n",
        "store/reports/tasks/__init__.py": _task("store.sum"),
        "store/reports/__init__.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "store"]:
        del sys.modules[name]


def _task(name: str) -> str:
    return (
        "import taskflow\nfrom store.flow import flow\n"
        f"@taskflow.task(name={name!r})\ndef task() -> None: ...\n"
    )


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Let an empty registry be the default one."""
    made = Registry()
    for home in (app_loading, registries, flows, taskflow):
        if hasattr(home, "default_registry"):
            monkeypatch.setattr(home, "default_registry", made)
    monkeypatch.setattr(taskflow, "task", made.task)
    return made


@pytest.mark.usefixtures("package", "registry")
def test_a_package_brings_its_flow_and_the_tasks_modules_below_it() -> None:
    """Nothing else in it is imported."""
    app = load("store")

    assert {"store.mail", "store.ship", "store.sum"} < {*app.registry.names()}
    assert "<TaskFlow memory://>" == repr(app.flow)
    assert "" == app.warning


@pytest.mark.usefixtures("package", "registry")
def test_an_app_without_a_task_is_told_what_to_import() -> None:
    """A worker of it would serve the plugins alone."""
    app = load("store.flow:flow")

    assert (
        "app 'store.flow:flow' declares no task: import store.orders.tasks, "
        "store.reports.tasks, store.tasks in it, or start with --app store"
    ) == app.warning


@pytest.mark.usefixtures("registry")
def test_a_module_without_a_task_is_told_to_import_them(tmp_path: Path) -> None:
    """It is no package, so there is nothing to name."""
    (tmp_path / "empty_app.py").write_text("import taskflow\n")

    told = load("empty_app", url="memory://").warning
    assert "import the modules that declare them in 'empty_app'" in told
    assert "" == load(None, url="memory://").warning


@pytest.mark.usefixtures("package")
def test_several_flows_have_to_be_told_apart(tmp_path: Path) -> None:
    """By their names."""
    (tmp_path / "store" / "__init__.py").write_text(
        "import taskflow\nother = taskflow.TaskFlow('memory://other')\n"
    )
    with pytest.raises(
        ConfigurationError, match=r"name one of store:other, store\.flow"
    ):
        load("store")


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
