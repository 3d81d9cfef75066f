from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vclone_core.models import Deployment, Project, ProjectSettings, Source, State, Target

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def project() -> Project:
    return Project("prj_1", "tem_1", "shop", None, ProjectSettings(), False, NOW)


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(
        id="dep_1",
        project_id="prj_1",
        target=Target.PRODUCTION,
        state=State.READY,
        source=Source("upload"),
        sequence=1,
        attempt=1,
        failure=None,
        framework=None,
        file_count=None,
        size_bytes=None,
        created_at=NOW,
        started_at=None,
        finished_at=None,
    )
