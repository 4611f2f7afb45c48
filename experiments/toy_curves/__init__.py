"""Short trainings of equal cost on ToyV1, to see what a long one should be like."""
