"""The network that ships, for all tests of the page."""
from __future__ import annotations

import pytest


@pytest.fixture(scope='package')
def network():
    """The toy network that ships, as the page offers it."""
    from adaptis.loading import load_predictor  # where the extra is missing, nothing is loaded
    from adaptis.serve.networks import ServedNetwork
    from tests.adaptis.serve.page import SAMPLE
    predictor = load_predictor()
    return ServedNetwork('toy_v1', 'Toy V1', 'sticks', lambda: predictor, SAMPLE)
