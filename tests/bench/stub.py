"""A loopback OpenAI-compatible server that can be slow, refuse, stall and break, and counts what it was asked.

Only for tests and benchmarks of the client: what it says is a function of what it was sent. Raw asyncio, because a
benchmark of a client needs a server that is not the bottleneck. GET /stats returns the counts.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import urllib.request
import zlib
from contextlib import contextmanager

SENTENCE = "這是一句長度固定的回答，用來量測用戶端。"


class Behaviour:
    """Shares of faults, and a token bucket; `seed` fixes which request meets which fault."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.random = options, random.Random(options.seed)
        self.tokens, self.filled = float(options.burst), None
        self.requests = self.refused = self.broken = 0
        self.answered: dict[int, int] = {}

    def fault(self, now: float) -> str:
        """Which fault this request meets, or ""."""
        if self.options.bucket and not self._take(now):
            return "limited"
        draw = self.random.random()
        for name in ("refuse", "hang", "cut", "reset", "malformed"):
            draw -= getattr(self.options, name)
            if draw < 0:
                return name
        return ""

    def _take(self, now: float) -> bool:
        passed = now - (self.filled if self.filled is not None else now)
        self.filled = now
        self.tokens = min(self.options.burst, self.tokens + passed * self.options.bucket)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def stats(self) -> dict:
        """Requests seen, refused, broken; bodies answered, and answers given to a body that had one."""
        repeated = sum(count - 1 for count in self.answered.values())
        return {"requests": self.requests, "refused": self.refused, "broken": self.broken,
                "answered": len(self.answered), "repeated": repeated}  # fmt: skip


class Connection(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection."""

    def __init__(self, behaviour: Behaviour):
        self.behaviour, self.buffer, self.once = behaviour, b"", False

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            found = head.find(b"content-length:")
            self.once = b"connection: close" in head
            length = int(head[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            if head.startswith(b"get"):
                self.send(200, json.dumps(self.behaviour.stats()).encode())
            else:
                self.answer(body)

    def answer(self, body: bytes) -> None:
        """Meet the request with its fault, or with its answer after the latency."""
        behaviour, loop = self.behaviour, asyncio.get_running_loop()
        behaviour.requests += 1
        fault = behaviour.fault(loop.time())
        if fault in ("refuse", "limited"):
            behaviour.refused += 1
            after = b"0" if fault == "refuse" else b"1"
            self.send(429, b'{"error":"slow down"}', b"Retry-After: " + after + b"\r\n")
            return
        behaviour.broken += bool(fault)
        if fault == "hang":
            return
        if fault == "reset":
            self.transport.abort()
            return
        key = zlib.crc32(body)
        content = f'{{"answer": "{key}' if fault == "malformed" else f'{{"answer": "{key} {SENTENCE * 12}"}}'
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(body) // 4, "completion_tokens": 120}
        raw = json.dumps({"id": f"{key}", "choices": [choice], "usage": usage}, ensure_ascii=False).encode()
        if fault == "cut":
            raw = raw[: len(raw) // 2]
        else:
            behaviour.answered[key] = behaviour.answered.get(key, 0) + 1
        if behaviour.options.latency:
            loop.call_later(behaviour.options.latency, self.send, 200, raw)
        else:
            self.send(200, raw)

    def send(self, status: int, content: bytes, extra: bytes = b"") -> None:
        """Write one response."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
            self.transport.write(head % (status, extra, len(content)) + content)
            if self.once:
                self.transport.close()


def parser() -> argparse.ArgumentParser:
    """Shares lie between 0 and 1, times are seconds."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("latency", "refuse", "hang", "cut", "reset", "malformed", "bucket"):
        found.add_argument(f"--{name}", type=float, default=0.0)
    found.add_argument("--burst", type=float, default=100.0)
    found.add_argument("--seed", type=int, default=0)
    return found


async def serve(options: argparse.Namespace) -> None:
    """Serve on a free loopback port and print it."""
    behaviour = Behaviour(options)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(behaviour), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def stub(**options: float):
    """Run the server in a process of its own; yields (base URL, function that returns its counts)."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield f"{address}/v1", lambda: json.load(urllib.request.urlopen(f"{address}/stats", timeout=10))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(serve(parser().parse_args()))
    except ImportError:
        asyncio.run(serve(parser().parse_args()))
    except KeyboardInterrupt:
        pass
