"""The parts that all training loops share: learning-rate schedule, checkpoints, peak memory."""
