"""Convert official checkpoints to this project's parameters."""
