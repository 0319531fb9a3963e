"""The worker of a launch on a CPU, in which accelerate accepts FSDP; run by test_training_exact.py with torchrun.

accelerate 1.15 knows FSDP on accelerators only, although PyTorch shards over gloo too. The rest is what a GPU runs.
"""

import sys
from pathlib import Path

from accelerate import state

from kyara_utils.models import precision
from kyara_utils.training import worker

begin = state.AcceleratorState.__init__


def begin_sharded(self, *args, fsdp_plugin=None, **named):
    begin(self, *args, fsdp_plugin=fsdp_plugin, **named)
    if fsdp_plugin is not None and self.distributed_type == state.DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = state.DistributedType.FSDP, fsdp_plugin
        state.PartialState._shared_state["distributed_type"] = state.DistributedType.FSDP


if __name__ == "__main__":
    state.AcceleratorState.__init__ = begin_sharded
    precision.device_and_dtype = lambda: ("cpu", "float32", "chosen by the test")
    precision.cpu_speeds = lambda: {"float32": 2.0, "bfloat16": 1.0}
    worker.main(Path(sys.argv[1]))
