"""Official checkpoints -> this project's parameters."""
