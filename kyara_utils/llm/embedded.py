"""llama.cpp's own OpenAI-compatible server, in this process, for models that come from pip packages or from training.

Everything above talks HTTP to it, exactly as it would to vLLM or SGLang; only the address differs.
"""

import gc
import os
import socket
from pathlib import Path

from kyara_utils.runs.errors import KyaraError


class EmbeddedServer:
    """A running server; use as a context manager. `base_url` ends in /v1."""

    def __init__(self, gguf: Path, *, parallel: int = 4, context: int = 2048, port: int = 0, threads: int = 0):
        _check_file(gguf)
        if port:
            _check_port(port)
        self._server = _start(gguf, parallel, context, port, threads or os.cpu_count() or 1)
        self.base_url = self._server.listening_address + "/v1"

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and give its memory back."""
        self._server = None
        gc.collect()


def _start(gguf: Path, parallel: int, context: int, port: int, threads: int):
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(gguf)
    options.n_parallel = parallel
    options.n_ctx = context * parallel
    options.port = port
    for cpu in (options.cpuparams, options.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0  # spinning threads starve each other as soon as another process wants a core
    options.use_jinja = True
    options.swa_full = True  # else Gemma's sliding window drops the worked examples that every prompt shares
    options.warmup = False
    options.verbosity = -1
    try:
        return xllamacpp.Server(options)
    except RuntimeError as error:
        raise KyaraError(
            f"llama.cpp cannot load {gguf}: the file is damaged or memory is short; "
            "delete it (it is rebuilt) or see: python -m kyara_utils doctor"
        ) from error


def _check_file(gguf: Path) -> None:
    try:
        magic = open(gguf, "rb").read(4)
    except OSError as error:
        raise KyaraError(f"no model file {gguf} ({error.strerror}); rerun the step that makes it") from error
    if magic != b"GGUF":
        raise KyaraError(f"{gguf} is not a GGUF file; delete it and rerun the step that makes it")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise KyaraError(f"port {port} is in use; choose another, or 0 for a free one") from error
