"""The training loop, checkpoints, schedules and logging."""
