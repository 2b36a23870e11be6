"""What every training shares: learning-rate schedule, checkpoints, peak memory."""
