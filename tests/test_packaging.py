"""The wheel holds all that the packages need, and nothing else."""

import configparser
import email
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from taskflow._declare.hints import TASK_OPTIONS

ROOT = Path(__file__).parent.parent
PACKAGES = ("taskflow", "taskflow_summarize")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Build the wheel from the sdist, as an installer without a wheel does."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = target.glob("*.whl")
    return zipfile.Path(built)


def names_in(wheel: zipfile.Path) -> set[str]:
    """Name the files of *wheel*."""
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


def metadata(wheel: zipfile.Path, name: str) -> str:
    """Read the file *name* of the wheel's metadata."""
    (path,) = [n for n in names_in(wheel) if n.endswith(f".dist-info/{name}")]
    return wheel.root.read(path).decode()


@pytest.mark.timeout(120)
def test_the_wheel_holds_every_file_of_both_packages(wheel: zipfile.Path) -> None:
    """Scripts, typing markers and sample texts are there; tests are not."""
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for package in PACKAGES
        for path in (ROOT / "src" / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert sources == {n for n in names_in(wheel) if ".dist-info/" not in n}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        ("taskflow/_protocol/lua/*.lua", 10),
        ("taskflow/_protocol/lua/_shared/*.lua", 1),
        ("*/py.typed", 2),
        ("taskflow_summarize/*/*.txt", 3),
    ],
)
def test_the_files_that_are_no_modules_are_in_the_wheel(
    pattern: str, least: int, wheel: zipfile.Path
) -> None:
    """What is read at run time is not forgotten when a folder is renamed."""
    found = [name for name in names_in(wheel) if Path(name).match(pattern)]

    assert least <= len(found)


@pytest.mark.timeout(120)
def test_the_commands_and_the_plugin_are_announced(wheel: zipfile.Path) -> None:
    """The entry points are those that the design names."""
    parser = configparser.ConfigParser()
    parser.read_string(metadata(wheel, "entry_points.txt"))

    assert {
        "console_scripts": {
            "taskflow": "taskflow.cli:main",
            "taskflow-worker": "taskflow.cli:worker",
        },
        "taskflow.commands": {
            "api": "taskflow_summarize.serve:api",
            "api-key": "taskflow_summarize.serve:api_key",
            "dashboard": "taskflow_summarize.serve:dashboard",
            "demo": "taskflow_summarize.cli:demo",
            "summarize": "taskflow_summarize.cli:summarize",
        },
        "taskflow.plugins": {"summarize": "taskflow_summarize.plugin:register"},
        "taskflow.settings": {
            "api": "taskflow_summarize._api_settings:ApiSettings",
            "summarize": "taskflow_summarize._settings:SummarizeSettings",
        },
    } == {section: dict(parser[section]) for section in parser.sections()}


@pytest.mark.timeout(120)
def test_the_wheel_names_itself_its_licence_and_its_extras(
    wheel: zipfile.Path,
) -> None:
    """Name, licence file and extras reach the metadata."""
    described = email.message_from_string(metadata(wheel, "METADATA"))

    assert {
        "Name": ["asynctaskflow"],
        "License-Expression": ["MIT"],
        "License-File": ["LICENSE"],
        "Provides-Extra": [
            "all",
            "api",
            "celery",
            "cli",
            "demo",
            "embedded",
            "fast",
            "fastapi",
            "metrics",
            "summarize",
        ],
    } == {
        field: sorted(described.get_all(field, []))
        for field in ("Name", "License-Expression", "License-File", "Provides-Extra")
    }


def test_the_extra_all_is_the_sum_of_the_others() -> None:
    """Nobody has to guess what ``[all]`` leaves out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    inside = {"fastapi", "metrics"}  # of the extra [api]
    others = sorted(set(extras) - {"all", "demo"} - inside)

    assert [f"asynctaskflow[{','.join(others)}]"] == extras["all"]


def test_the_version_has_its_place_in_the_changelog() -> None:
    """A release is not made without saying what is in it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    unreleased, *released = [
        line
        for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
        if line.startswith("## ")
    ]

    assert "## [Unreleased]" == unreleased
    assert not released or released[0].startswith(f"## [{project['version']}] - ")


def test_the_readme_lists_every_extra() -> None:
    """And none that is not there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme.partition("| extra | brings |\n|---|---|\n")[2].partition("\n\n")[0]
    listed = [line.split("`")[1] for line in table.splitlines()]

    assert sorted(project["optional-dependencies"]) == sorted(listed)


def test_the_page_of_the_api_shows_every_option_of_task() -> None:
    """The decorator's signature is written by hand there."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text("utf-8")
    shown = page.partition(".. autofunction:: task(")[2].partition(")\n")[0]
    names = [each.partition("=")[0] for each in shown.split(", ") if "=" in each]

    assert list(TASK_OPTIONS) == names
