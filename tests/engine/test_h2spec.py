"""h2spec (github.com/summerwind/h2spec), the conformance suite for HTTP/2, over TLS and by prior knowledge."""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from tests.engine.conftest import StartEdge
from tests.engine.engines import H2SPEC_CLEAR
from tests.pairs import write_pair

pytestmark = pytest.mark.h2spec


def find_h2spec() -> str:
    found = os.environ.get("VCLONE_H2SPEC") or shutil.which("h2spec")
    if found is None:
        missing = "no h2spec: set VCLONE_H2SPEC, or `go install github.com/summerwind/h2spec/cmd/h2spec@latest`"
        (pytest.fail if os.environ.get("VCLONE_REQUIRE") == "1" else pytest.skip)(missing)
    return found


@pytest.mark.parametrize("is_tls", [False, True], ids=["clear", "tls"])
def test_nothing_fails_but_what_is_known(start_edge: StartEdge, tmp_path: Path, is_tls: bool) -> None:
    program = find_h2spec()
    write_pair(tmp_path / "certificates", "default", "site.localhost")
    edge = start_edge(
        edge_h2_prior_knowledge=True,
        edge_certificates=tmp_path / "certificates",
        edge_connections_per_address=1000,
        edge_idle_s=10,
    )
    where = ["-t", "-k", "-p", str(edge.tls_port)] if is_tls else ["-p", str(edge.port)]
    report = tmp_path / "h2spec.xml"
    subprocess.run([program, *where, "-P", "/read", "-o", "4", "-j", str(report)], capture_output=True, timeout=110)
    cases = [(suite.get("package"), case) for suite in ElementTree.parse(report).iter("testsuite") for case in suite]
    failed = {
        f"{package} {case.get('classname')}"
        for package, case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    assert len(cases) > 140
    assert failed == (set() if is_tls else set(H2SPEC_CLEAR))
    assert edge.process.poll() is None
