"""Benchmarks scored without a judge: exams, ZeroEval, ZebraLogic, IFEval, the harness's tasks."""
