"""Error messages fit on one line, whatever they quote."""
from __future__ import annotations

import pickle

from adaptis.errors import AdaptisError


def test_a_message_is_one_line_that_can_be_printed():
    error = AdaptisError('The name "a\nb\r\n\ud800" is\x85unknown.')
    assert str(error) == 'The name "a b \\ud800" is unknown.'
    str(error).encode('utf-8')


def test_a_long_quotation_is_cut_in_its_middle():
    text = str(AdaptisError(f'The name {"x" * 9000} is unknown: choose another one.'))
    assert len(text) == AdaptisError.LONGEST
    assert text.startswith('The name xxx') and text.endswith('x is unknown: choose another one.')


def test_errors_travel_between_processes():
    again = pickle.loads(pickle.dumps(AdaptisError('One sentence.')))
    assert isinstance(again, AdaptisError) and str(again) == 'One sentence.'
