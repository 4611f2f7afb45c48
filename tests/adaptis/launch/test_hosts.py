"""The file of machines, and who works where."""
from __future__ import annotations

from pathlib import Path

import pytest

from adaptis.errors import AdaptisError
from adaptis.launch.hosts import is_here, read_hosts, share_servers, share_workers


def test_a_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / 'hosts'
    path.write_text('node1  # the first\n\n# none\nme@10.0.0.2\n')
    assert read_hosts(path) == ['node1', 'me@10.0.0.2']


@pytest.mark.parametrize('text, words', [
    (None, 'cannot be read: No such file'),
    ('', 'names no machine'),
    ('# later\n\n', 'names no machine'),
    ('node1 slots=4\n', '"node1 slots=4" is not the name of a machine'),
    ('-oProxyCommand=harm\n', 'is not the name of a machine'),
    ('node1\nnode2\nnode1\n', 'names node1 twice'),
    (b'\xff\xfe\x00', 'it is not text'),
])
def test_mistakes_in_the_file_are_one_sentence(tmp_path: Path, text: object, words: str) -> None:
    path = tmp_path / 'hosts'
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AdaptisError, match='--hosts .*hosts') as error:
        read_hosts(path)
    assert words in str(error.value)


def test_machines_share_the_workers_and_the_servers() -> None:
    places = share_workers(['a', 'b'], 5)
    assert [tuple(place) for place in places] == [('a', 3)] * 3 + [('b', 2)] * 2
    assert [place.host for place in share_servers(places, 3)] == ['a', 'b', 'a']
    with pytest.raises(AdaptisError, match='2 machines, which need at least one worker each'):
        share_workers(['a', 'b'], 1)


def test_this_machine_needs_no_ssh() -> None:
    assert is_here('localhost') and not is_here('node1.example.org')
