"""The sandbox: every way in which a model's code can misbehave ends in an outcome, and leaves nothing behind."""

import json
import os
import time

import psutil
import pytest

from kyara_utils.evaluation.scored.sandbox import ERROR, LIMIT, MOST_OUTPUT, OK, TIMEOUT, run_limited, score_execution
from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG
from kyara_utils.runs.errors import KyaraError


def test_code_and_programs_run_and_report():
    """Without the plain case, a sandbox that refuses everything would pass the other tests."""
    done = run_limited("import math\nprint(math.factorial(5))")
    assert (done.status, done.returncode, done.stdout) == (OK, 0, "120\n")
    assert run_limited(["/bin/echo", "tea"]).stdout == "tea\n"
    failed = run_limited("1/0")
    assert failed.status == ERROR and "ZeroDivisionError" in failed.stderr
    with pytest.raises(KyaraError, match="no such program"):
        run_limited(["/nonexistent/python"])


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("while True: pass", TIMEOUT),
        ("import time; time.sleep(60)", TIMEOUT),
        ("x = bytearray(10**10)", LIMIT),
        ("while True: print('a' * 1000)", LIMIT),
        ("open('f', 'wb').write(b'a' * 10**8)", LIMIT),
        ("import ctypes; ctypes.string_at(0)", LIMIT),
    ],
)
def test_endless_and_greedy_code_is_stopped(code, status):
    """One endless loop would otherwise stop an evaluation of hundreds of answers."""
    done = run_limited(code, timeout_s=2, memory_mb=256)
    assert done.status == status and len(done.stdout) <= MOST_OUTPUT


def test_secrets_and_files_of_the_run_are_out_of_reach(monkeypatch):
    """Keys live in the environment; model-written code must not read them nor find the project by its folder."""
    monkeypatch.setenv("SECRET_API_KEY", "s3cret")
    code = "import json, os, sys; print(json.dumps([dict(os.environ), os.listdir('.'), sys.flags.isolated]))"
    environment, files, isolated = json.loads(run_limited(code).stdout)
    assert "SECRET_API_KEY" not in environment and environment["HOME"] != os.environ.get("HOME")
    assert files == [] and isolated == 1


def test_children_die_with_the_run():
    """A process left behind would slow down every later measurement."""
    marker = f"sandbox-child-{os.getpid()}"
    code = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', '{marker}'])"
    )
    assert run_limited(code).status == OK
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(marker in process.info["cmdline"] for process in commands()):
        time.sleep(0.05)  # the kernel reaps a killed process a moment later
    assert not any(marker in process.info["cmdline"] for process in commands())


def commands():
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]


def test_execution_is_scored_in_three_outcomes():
    """An answer that closes the bracket and goes on would be always right; a time-out says nothing about it."""
    code = "def f(x):\n    return [x, x + 1]"
    assert score_execution(code, "f(1)", "[1, 2]") == CORRECT
    assert score_execution(code, "f(1)", "[2, 1]") == WRONG
    assert score_execution(code, "f(1)", "[2, 1]) or (True") == WRONG
    assert score_execution(code, "f(1)", "__import__('os')._exit(0)") == WRONG
    assert score_execution("def f(x):\n    while True: pass", "f(1)", "1", timeout_s=1) == UNSCORED
