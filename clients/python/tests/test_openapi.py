"""The operator's interface does what its document says, whatever it is asked: schemathesis makes the questions."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parents[1]
SCHEMATHESIS = pathlib.Path(sys.executable).parent / "schemathesis"


def test_no_question_makes_it_fail_hang_or_answer_otherwise_than_documented(server, tmp_path):
    command = [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run", f"{server.http}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {server.credentials['admin_token']}"]
    # A tail has no end, and copies would be made wherever the questions say.
    command += ["--exclude-path", "/admin/v1/tail", "--exclude-path", "/admin/v1/backup"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--generation-deterministic"]
    command += ["--request-timeout", "10", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert "No issues found" in done.stdout or "passed" in done.stdout, done.stdout[-2_000:]
