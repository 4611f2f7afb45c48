"""Access to the page: host names, origins of requests, the token."""
from __future__ import annotations

import pytest

from adaptis.serve.networks import ServedNetwork
from tests.adaptis.serve import page

TOKEN = 'a-token-for-tests'


def client_of(**options):
    network = ServedNetwork('net', 'Net', 'nothing', lambda: None, page.SAMPLE)
    return page.client_of(network, **options)


def status(client, path='/api/models', **headers):
    named = {name.replace('_', '-'): value for name, value in headers.items()}
    return client.get(path, headers=named).status_code


@pytest.mark.parametrize('host, expected', [
    ('localhost', 200), ('LOCALHOST:8000', 200), ('127.0.0.1:9', 200), ('[::1]:8000', 200),
    ('example.com', 403), ('localhost.example.com', 403), ('127.0.0.1.example.com:8000', 403),
    ('localhost:x', 403), ('', 403)])
def test_only_names_of_this_machine(host, expected):
    client = client_of()
    assert status(client, host=host) == expected
    assert status(client, '/', host=host) == expected   # a page under another name gets no script


@pytest.mark.parametrize('origin, expected', [
    ('http://localhost:8000', 200), ('https://localhost:8000', 200),
    ('http://localhost:8001', 403), ('http://example.com', 403), ('null', 403)])
def test_only_its_own_page(origin, expected):
    client = client_of()
    assert status(client, host='localhost:8000', origin=origin) == expected
    posted = client.post('/api/images?model=net', headers={'host': 'localhost:8000',
                                                           'origin': origin}, content=b'?')
    assert (posted.status_code == 403) == (expected == 403)


@pytest.mark.parametrize('site, expected', [
    ('same-origin', 200), ('none', 200), ('cross-site', 403), ('same-site', 403)])
def test_what_the_browser_says_of_the_sender(site, expected):
    assert status(client_of(), sec_fetch_site=site) == expected
    assert status(client_of(), '/', sec_fetch_site=site) == 200   # a link may be followed


def test_the_token():
    client = client_of(hosts=None, token=TOKEN)
    assert status(client, host='my-machine:8000', authorization=f'Bearer {TOKEN}') == 200
    for wrong in ({}, {'authorization': f'Bearer {TOKEN}x'}, {'authorization': TOKEN},
                  {'authorization': 'Bearer \xe9'}):
        named = {name: value.encode('latin-1') for name, value in wrong.items()}
        answer = client.get('/api/models', headers=named)
        assert answer.status_code == 401 and 'token' in answer.json()['error']
    assert status(client, '/') == status(client, '/samples/net/0') == 200   # nothing secret


def test_any_name_needs_a_token():
    with pytest.raises(ValueError, match='needs a token'):
        page.Guard(None, hosts=None)


def test_headers_of_every_answer():
    for path in '/', '/api/models', '/api/images/none/mask?x=1&y=1', '/nothing':
        headers = client_of().get(path).headers
        assert "default-src 'none'" in headers['content-security-policy']
        assert headers['x-content-type-options'] == 'nosniff'
        assert 'access-control-allow-origin' not in headers


def test_no_file_outside_the_page():
    for path in '/../app.py', '/%2e%2e/app.py', '/..%2fapp.py', '/static/../../app.py':
        assert client_of().get(path).status_code == 404
