"""Ask a stub some questions and write the answers: the process that tests and benchmarks kill and rerun."""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import aiohttp  # noqa: F401  imported lazily by the client; importing is not what is measured

from kyara_utils.llm import Client, Model, Request
from kyara_utils.llm.ledger import Ledger

SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def main(options: argparse.Namespace) -> None:
    """Answer `rows` questions; print one JSON line: seconds, CPU seconds, peak memory, usage, rows failed."""
    schema = SCHEMA if options.schema else None
    model = Model("stub", options.url, model="m", parallel=options.parallel, timeout=options.timeout)
    requests = (Request([{"role": "user", "content": f"第{row}題：" + "請回答。" * 20}], schema=schema)
                for row in range(options.rows))  # fmt: skip
    with Client(model, Ledger(options.ledger)) as client:
        begun, cpu = time.perf_counter(), time.process_time()
        responses = client.ask(requests, progress=False, reasks=2)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if options.out:
        lines = (json.dumps([response.text, response.error], ensure_ascii=False) for response in responses)
        options.out.write_text("\n".join(lines), encoding="utf-8")
    failed = sum(bool(response.error) for response in responses)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    facts = {"seconds": seconds, "cpu": cpu, "peak_mb": peak, "rows": len(responses), "failed": failed}
    print(json.dumps(facts | {"usage": client.usage}))


def parser() -> argparse.ArgumentParser:
    """Times are seconds."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("url")
    found.add_argument("ledger", type=Path)
    found.add_argument("--rows", type=int, default=1000)
    found.add_argument("--parallel", type=int, default=64)
    found.add_argument("--timeout", type=float, default=60.0)
    found.add_argument("--schema", action="store_true")
    found.add_argument("--out", type=Path)
    return found


if __name__ == "__main__":
    sys.exit(main(parser().parse_args()))
