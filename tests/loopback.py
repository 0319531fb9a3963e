"""A small OpenAI-compatible server for tests: what it is told to say, word by word, and everything it was asked."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def loopback(reply, names=("toy",)):
    """Yield (address, bodies asked). reply(body) gives a text, (status, error text), (status, address it sends to) for
    a redirection, or a list of raw events, with None at its end where the connection breaks. names: of the models it
    lists; None has no list.

    A text is streamed in pieces of two characters where the request asks for a stream.
    """
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *given):
            pass

        def do_GET(self):  # noqa: N802  the library's name
            if names is None:
                self._send(404, "no such page", "text/plain")
            else:
                self._send(200, json.dumps({"data": [{"id": name} for name in names]}), "application/json")

        def do_POST(self):  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            said = reply(body)
            if isinstance(said, tuple):
                self._send(said[0], json.dumps({"error": {"message": said[1]}}), "application/json")
            elif body.get("stream"):
                events = said if isinstance(said, list) else pieces(said)
                events = events[:-1] if events[-1] is None else [*events, "[DONE]"]
                self._send(200, "".join(f"data: {event}\n\n" for event in events), "text/event-stream")
            else:
                choice = {"message": {"content": said}, "text": said, "finish_reason": "stop"}
                self._send(200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": 5}}), "application/json")

        def _send(self, status, content, kind):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if 300 <= status < 400:
                self.send_header("Location", json.loads(content)["error"]["message"])
            self.end_headers()
            self.wfile.write(content.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def pieces(text):
    """Events of a streamed text: two characters each, then the reason of its end."""
    parts = [text[start : start + 2] for start in range(0, len(text), 2)]
    events = [{"choices": [{"delta": {"content": part}, "finish_reason": None}]} for part in parts]
    return [json.dumps(event) for event in (*events, {"choices": [{"delta": {}, "finish_reason": "stop"}]})]
