"""Running code that a model wrote, in a subprocess with limits, for protocols that execute it (CRUXEval, HumanEval).

A guard against accidents: endless loops, full memory or disk, forks, stray network calls, keys in the environment. It
is no wall against an attacker; for hostile code run the whole evaluation in a container, and never as root.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kyara_utils.evaluation.scoring import CORRECT, UNSCORED, WRONG
from kyara_utils.runs.errors import KyaraError

OK, ERROR, TIMEOUT, LIMIT = "ok", "error", "timeout", "limit"
MOST_OUTPUT = 1_000_000  # bytes of each stream, and of any file the code writes
MOST_PROCESSES = 64  # beyond those of the user; the kernel does not hold root to it
# Set in the child itself, just before it becomes the program: code between fork and exec is unsafe in a process with
# threads. A network namespace of its own is tried first and silently done without where the kernel refuses.
LAUNCHER = """
import ctypes, os, resource, sys
seconds, memory, output, processes, *argv = sys.argv[1:]
try:
    ctypes.CDLL(None).unshare(0x10000000 | 0x40000000)
except (OSError, AttributeError):
    pass
def limit(name, value):
    if hasattr(resource, name):
        hard = resource.getrlimit(getattr(resource, name))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(getattr(resource, name), (value, value))
limit("RLIMIT_CPU", int(seconds) + 1)
limit("RLIMIT_AS", int(memory))
limit("RLIMIT_FSIZE", int(output))
limit("RLIMIT_NPROC", int(processes))
limit("RLIMIT_CORE", 0)
os.execv(argv[0], argv)
"""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `status` is ok, error (exit code not 0), timeout, or limit (killed by a resource limit)."""

    status: str
    returncode: int
    stdout: str
    stderr: str


def run_limited(code: str | Sequence[str], timeout_s: float = 10.0, memory_mb: int = 512) -> Outcome:
    """Run Python source (as `python -I`) or an argument list in an empty folder and an empty environment.

    `timeout_s` limits wall-clock and CPU seconds, `memory_mb` the address space in MiB. The process group is killed
    at the end, whatever happened. Output is cut at `MOST_OUTPUT` bytes. Raises KyaraError for a program that is absent.
    """
    argv = [sys.executable, "-I", "-c", code] if isinstance(code, str) else list(code)
    if not Path(argv[0]).is_file():
        raise KyaraError(f"cannot run {argv[0]}: no such program; give its full path")
    limits = [str(int(timeout_s) + 1), str(memory_mb << 20), str(MOST_OUTPUT), str(MOST_PROCESSES)]
    with tempfile.TemporaryDirectory(prefix="kyara-sandbox-") as folder:
        work = Path(folder, "work")
        work.mkdir()
        streams = [Path(folder, name) for name in ("stdout", "stderr")]
        with open(streams[0], "wb") as out, open(streams[1], "wb") as err:
            launch = [sys.executable, "-I", "-c", LAUNCHER, *limits, *argv]
            returncode = _wait(launch, work, out, err, timeout_s)
        texts = [stream.read_bytes()[:MOST_OUTPUT].decode("utf-8", "replace") for stream in streams]
    return Outcome(_status(returncode, texts[1]), -1 if returncode is None else returncode, *texts)


def _wait(argv: list[str], folder: Path, out: object, err: object, timeout_s: float) -> int | None:
    """Exit code of the process, None on timeout; its group is gone when this returns."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
    )
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def _status(returncode: int | None, stderr: str) -> str:
    if returncode is None or returncode == -signal.SIGXCPU:
        return TIMEOUT
    if returncode < 0 or "MemoryError" in stderr[-200:] or "File too large" in stderr[-200:]:
        return LIMIT
    return ERROR if returncode else OK


def score_execution(code: str, call: str, answer: str, timeout_s: float = 5.0) -> str:
    """CRUXEval's rule: does `call`, after `code`, equal the model's `answer`? (facebookresearch/cruxeval)

    The answer is read as a literal and never joined into the program, so it cannot close a bracket and go on as code.
    Correct when the two are equal, wrong when not or when the answer is no literal, unscored when a limit or the clock
    ended the run before that.
    """
    equal = f"{call} == __import__('ast').literal_eval({answer.strip()!r})"
    outcome = run_limited(f"{code}\n__import__('sys').exit(0 if {equal} else 3)\n", timeout_s)
    return {OK: CORRECT, ERROR: WRONG}.get(outcome.status, UNSCORED)
