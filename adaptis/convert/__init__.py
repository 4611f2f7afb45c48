"""Convert official checkpoints to this library's parameters."""
