"""The student: checkpoints, chat template, data for training, SFT and DPO."""
