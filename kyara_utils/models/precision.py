"""In which numbers to train, by a measurement and not by a belief about the hardware.

TRL's default is bf16. A CPU without bf16 units emulates it (a step took 32.5 s against 2.1 s in fp32), a T4 has none,
and fp16 is never chosen: Gemma's activations exceed its largest number, and the loss turns to NaN or 0.
"""

import time
from functools import cache

from kyara_utils.runs.env import device_and_dtype

SIZE, REPEATS, SECONDS = 256, 3, 0.1  # at least so many products, and for so long: the best of few is a busy moment
WORTH_IT = 2.0  # times faster than fp32 before a CPU trains in bf16: less is noise, or is lost in the casts


@cache
def choose_precision() -> tuple[str, str, str]:
    """Return (device, dtype, reason) for training; dtype is float32 or bfloat16, the latter as mixed precision.

    A CUDA device is judged by its compute capability (bf16 from 8.0, Ampere, on), a CPU by `cpu_speeds`. Measured
    once a process.
    """
    device, dtype, reason = device_and_dtype()
    return (device, dtype, reason) if device != "cpu" else ("cpu", *_on_cpu(cpu_speeds()))


def _on_cpu(speeds: dict[str, float]) -> tuple[str, str]:
    fp32, bf16 = speeds["float32"], speeds["bfloat16"]
    measured = f"this CPU multiplies matrices at {bf16:.3g} GFLOP/s in bf16, {fp32:.3g} in fp32"
    return ("bfloat16", measured) if bf16 > WORTH_IT * fp32 else ("float32", measured)


def cpu_speeds() -> dict[str, float]:
    """Return GFLOP/s of 256³ matrix products for float32 and bfloat16: one core's best in a tenth of a second × cores.

    One thread at a time, because on a busy machine two threads wait for each other and a product looks 40 times slower.
    """
    import torch

    threads, speeds = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        for name in ("float32", "bfloat16"):
            matrix = torch.ones(SIZE, SIZE, dtype=getattr(torch, name))
            matrix @ matrix  # the first call chooses and compiles a kernel
            speeds[name] = threads * 2 * SIZE**3 / _best_seconds(matrix) / 1e9
    finally:
        torch.set_num_threads(threads)
    return speeds


def _best_seconds(matrix) -> float:
    found, until = [], time.perf_counter() + SECONDS
    while len(found) < REPEATS or time.perf_counter() < until:
        started = time.perf_counter()
        matrix @ matrix
        found.append(time.perf_counter() - started)
    return max(min(found), 1e-9)
