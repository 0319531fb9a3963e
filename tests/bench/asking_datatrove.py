"""The same questions through datatrove's inference runner, in an environment of its own: the peer of `engine.py`."""

import json
import resource
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter
from loguru import logger


async def rollout(document: Document, generate):
    """One chat call per document."""
    result = await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": 256})
    return {"text": result.text}


def main(url: str, folder: str, rows: int, parallel: int) -> None:
    """Ask, with checkpoints and the request cache on; print seconds, CPU seconds, peak memory, rows."""
    logger.remove()
    documents = [Document(text=f"第{row}題：" + "請回答。" * 20, id=str(row)) for row in range(rows)]
    config = InferenceConfig(
        server_type="endpoint", model_name_or_path="m", endpoint_url=url.removesuffix("/v1"),
        max_concurrent_generations=parallel, server_ready_delay_sec=0.1,
    )  # fmt: skip
    writer = JsonlWriter(f"{folder}/out", output_filename="${rank}_${chunk_index}.jsonl", compression=None)
    runner = InferenceRunner(
        rollout, config, writer, checkpoints_local_dir=f"{folder}/checkpoints", records_per_chunk=500
    )
    begun, cpu = time.perf_counter(), time.process_time()
    runner.run(documents, rank=0, world_size=1)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    written = sum(len(path.read_text().splitlines()) for path in Path(folder, "out").glob("*.jsonl"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak, "rows": written}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
