"""The document of the API against the API: schemathesis asks the served one, with PostgreSQL and Valkey behind it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from .conftest import EDGE_TOKEN, Api
from .served import serve

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

HERE = Path(__file__).parent


async def test_the_document_tells_the_truth(api: Api, tmp_path: Path) -> None:
    """All checks of schemathesis, in all its phases; what is left out stands in schemathesis.toml, with its reason."""
    project = await api.project()
    one, other = await api.live(project), await api.live(project)
    # It asks hundreds of times a second: limits are another test's.
    settings = api.platform.settings.model_copy(
        update={"api_rate_factor": 1000, "sign_up": "open", "log_level": "warning"}
    )
    async with serve(settings) as served:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "st"),
            "--config-file",
            str(HERE / "schemathesis.toml"),
            "run",
            f"{served.url}/api/openapi.json",
            "--header",
            f"Authorization: Bearer {api.callers['owner']}",
            "--no-color",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
                "PYTHONPATH": str(HERE.parents[1]),
                "VCLONE_TEST_EDGE_TOKEN": EDGE_TOKEN,
                "VCLONE_TEST_PROJECT": project.name,
                "VCLONE_TEST_DEPLOYMENT": one.id,
                "VCLONE_TEST_OTHER_DEPLOYMENT": other.id,
            },
        )
        said, _ = await process.communicate()
        print(said.decode())
    assert process.returncode == 0
