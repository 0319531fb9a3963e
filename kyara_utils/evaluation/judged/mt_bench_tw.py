"""MT-Bench-TW: the same 80 questions in Traditional Chinese, with judge prompts and references of its own."""

from kyara_utils.evaluation.benchmark import Benchmark
from kyara_utils.evaluation.judged.mt_bench import MtBench
from kyara_utils.evaluation.registry import register


@register
class MtBenchTw(MtBench):
    """A reference is used wherever one exists."""

    name = "mt_bench_tw"
    title = "MT-Bench-TW"
    licence = "unstated"
    files = ("mt_bench_tw_prompts", "mt_bench_tw_questions", "mt_bench_tw_references")
    references = "presence"

    check = Benchmark.check  # MT-Bench's reads the judgment files of both
