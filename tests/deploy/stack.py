"""What ``docker-compose`` makes of the files, in a copy of a clone."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples" / "deploy"
PROFILES = ("development", "production", "high-throughput", "memory-constrained")

# As the seed has it.
CREATE = """curl -X POST http://localhost:8000/api/v1/tasks/summarize/ \\
  -H "Content-Type: application/json" \\
  -d '{"content": "This is a test document to summarize."}'"""


class Clone:
    """The root of a clone, after ``cp .env.example .env``.

    Args:
        root: An empty directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(FILES, root / "examples" / "deploy")
        shutil.copy(ROOT / ".env.example", root / ".env")

    def compose(self, *arguments: str, **environment: str) -> str:
        """Run ``docker-compose`` at the root, with nothing else from outside.

        Args:
            *arguments: Its arguments.
            **environment: What the shell exports.

        Returns:
            What it printed.
        """
        kept = {
            name: os.environ[name]
            for name in ("HOME", "PATH", "TMPDIR")
            if name in os.environ
        }
        ended = subprocess.run(
            ["docker-compose", *arguments],
            cwd=self.root,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 0 == ended.returncode, ended.stderr
        # It warns of a variable that is used and set nowhere.
        assert "" == ended.stderr
        return ended.stdout

    def services(self, *options: str, **environment: str) -> dict[str, Any]:
        """Read the services as compose understands them.

        Args:
            *options: Options before the command, such as ``--profile tools``.
            **environment: What the shell exports.

        Returns:
            Their configuration by name.
        """
        printed = self.compose(*options, "config", "--format", "json", **environment)
        services: dict[str, Any] = json.loads(printed)["services"]
        return services

    def profile(self, name: str) -> dict[str, Any]:
        """Read the services under one of the four profiles.

        Args:
            name: Of the profile.

        Returns:
            Their configuration by name.
        """
        return self.services(
            COMPOSE_ENV_FILES=f".env,examples/deploy/profiles/{name}.env"
        )


def variables(printed: str) -> dict[str, str]:
    """Read what ``config --variables`` prints.

    Args:
        printed: Its table.

    Returns:
        Each variable's default as it is written, "" for none.
    """
    rows = [line.split() for line in printed.splitlines()[1:] if line.strip()]
    return {row[0]: row[2] if len(row) > 2 else "" for row in rows}


def dotenv(path: Path) -> Mapping[str, str]:
    """Read the variables of a ``.env`` file, those after ``# `` included.

    Args:
        path: The file.

    Returns:
        Their texts by name.
    """
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, text = line.removeprefix("#").strip().partition("=")
        if equals and name.isupper() and name.replace("_", "a").isalnum():
            found[name] = text
    return found
