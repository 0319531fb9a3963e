"""A transformers folder behind OpenAI's protocol, on this machine's loopback address, in this process.

llama.cpp serves what a GGUF can hold (`gguf_export`); a trained model of any other family is served here, so that
everything above asks it as it asks vLLM: through the ledger, with seeds, stops and log-probabilities. Requests that
wait are answered in one batch. At scale a vLLM server is faster: name it in params/models.yaml.
"""

import json
import queue
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kyara_utils.models.chat_templates import token_ids
from kyara_utils.models.generation import Answer, Ask, generate, prompt_ids
from kyara_utils.models.gguf_export import export_gguf, exportable
from kyara_utils.models.loading import load_model, load_tokenizer
from kyara_utils.models.precision import choose_precision
from kyara_utils.runs.errors import KyaraError

GATHER = 0.01  # seconds that the first request of a batch waits for others
NO_SCHEMA = (
    "a transformers model in this process is not held to a JSON schema; serve it with vLLM, see params/models.yaml"
)


def servable(model_dir: Path, gguf: Path | None = None) -> Path:
    """Return what serves a model: its GGUF, written to `gguf` (or into the folder) if it can be, else the folder."""
    model_dir = Path(model_dir)
    return export_gguf(model_dir, gguf or model_dir / "model.gguf") if exportable(model_dir) else model_dir


class FolderServer:
    """A running server of one model; use as a context manager. `base_url` ends in /v1.

    parallel: most requests of a batch; context: tokens of prompt and answer together; port 0: a free one.
    """

    def __init__(self, folder: Path, *, parallel: int = 4, context: int = 2048, port: int = 0):
        self.tokenizer = load_tokenizer(folder)
        device, dtype, _ = choose_precision()
        # a CPU's choice is a measurement, and one key of the ledger must not stand for two kinds of numbers; a CPU
        # that trains faster in bf16 does not decode faster in it
        self.model = load_model(folder, device, "float32" if device == "cpu" else dtype).eval()
        self.parallel, self.context, self.name = parallel, context, Path(folder).name
        self._waiting: queue.Queue[tuple[Ask, Future] | None] = queue.Queue()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"owner": self}))
        self._http.daemon_threads = True
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._http.serve_forever, self._answer)]
        for thread in self._threads:
            thread.start()
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "FolderServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server and give its memory back."""
        self._http.shutdown()
        self._http.server_close()
        self._waiting.put(None)
        for thread in self._threads:
            thread.join(timeout=30)
        self.model = None

    def ask(self, asks: list[Ask]) -> list[Answer]:
        """Answer requests together with whatever else waits."""
        futures: list[Future] = [Future() for _ in asks]
        for item in zip(asks, futures, strict=True):
            self._waiting.put(item)
        return [future.result() for future in futures]

    def _answer(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first, *self._others()]
            try:
                answers = generate(self.model, self.tokenizer, [ask for ask, _ in batch])
            except Exception as error:  # noqa: BLE001  every waiting request must hear of it, and the thread go on
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)

    def _others(self) -> list[tuple[Ask, Future]]:
        time.sleep(GATHER)
        found: list[tuple[Ask, Future]] = []
        while len(found) < self.parallel - 1 and not self._waiting.empty():
            if (item := self._waiting.get()) is None:
                self._waiting.put(None)
                break
            found.append(item)
        return found


class _Handler(BaseHTTPRequestHandler):
    owner: FolderServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *given: Any) -> None:
        """Say nothing: every call is in the ledger."""

    def do_GET(self) -> None:  # noqa: N802  the name is the library's
        known = self.path.endswith("/models")
        listed = {"object": "list", "data": [{"id": self.owner.name, "object": "model"}]}
        self._send(*((200, listed) if known else (404, {"error": {"message": f"nothing at {self.path}"}})))

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            chat = self.path.endswith("/chat/completions")
            ask = read_ask(self.owner.tokenizer, body, chat, self.owner.context)
            asks = [Ask(**{**vars(ask), "seed": ask.seed + number}) for number in range(body.get("n") or 1)]
            answer = reply(asks, self.owner.ask(asks), chat)
            self._send_events(answer) if body.get("stream") else self._send(200, answer)
        except KyaraError as error:
            self._send(400, {"error": {"message": str(error)}})
        except Exception as error:  # noqa: BLE001  the caller must hear of it in its own process
            self._send(422, {"error": {"message": f"{type(error).__name__}: {error}"[:300]}})

    def _send_events(self, answer: dict[str, Any]) -> None:
        """The whole answer as one event, for clients that ask for a stream."""
        choices = [{"delta" if name == "message" else name: one[name] for name in one} for one in answer["choices"]]
        event = json.dumps({**answer, "choices": choices}, ensure_ascii=False)
        self._send_bytes(200, f"data: {event}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")

    def _send(self, status: int, body: dict[str, Any]) -> None:
        self._send_bytes(status, json.dumps(body, ensure_ascii=False).encode(), "application/json")

    def _send_bytes(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def read_ask(tokenizer, body: dict[str, Any], chat: bool, context: int) -> Ask:
    """Read a request of OpenAI's chat or completions API, with llama.cpp's `repeat_penalty`; or a `KyaraError`."""
    if "json_schema" in body or (body.get("response_format") or {}).get("type") == "json_schema":
        raise KyaraError(NO_SCHEMA)
    if chat:
        prompt = token_ids(tokenizer, body["messages"], add_generation_prompt=True)
    else:
        prompt = prompt_ids(tokenizer, body["prompt"])
    limit, stop = body.get("max_tokens") or 256, body.get("stop") or ()
    if len(prompt) + limit > context:
        raise KyaraError(f"{len(prompt)} tokens of prompt and {limit} of answer exceed the context of {context}")
    return Ask(
        prompt, limit, body.get("temperature") or 0.0, body.get("seed") or 0,
        (stop,) if isinstance(stop, str) else tuple(stop), body.get("repeat_penalty") or 1.0,
        (body.get("top_logprobs") if chat else body.get("logprobs")) or 0,
    )  # fmt: skip


def reply(asks: list[Ask], answers: list[Answer], chat: bool) -> dict[str, Any]:
    """Return the body of OpenAI's answer."""
    choices = []
    for number, answer in enumerate(answers):
        body = {"message": {"role": "assistant", "content": answer.text}} if chat else {"text": answer.text}
        known = _logprobs(answer, chat) if answer.logprobs else None
        choices.append({"index": number, "finish_reason": answer.finish_reason, "logprobs": known, **body})
    made = sum(answer.tokens for answer in answers)
    return {"choices": choices, "usage": {"prompt_tokens": len(asks[0].prompt), "completion_tokens": made}}


def _logprobs(answer: Answer, chat: bool) -> dict[str, Any]:
    if not chat:
        return {"top_logprobs": [dict(tops) for tops in answer.logprobs]}
    tops = [[{"token": token, "logprob": value} for token, value in found] for found in answer.logprobs]
    return {"content": [{**found[0], "top_logprobs": found} for found in tops]}
