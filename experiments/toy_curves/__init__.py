"""Compare short trainings of equal cost on ToyV1, to choose the settings of a long one."""
