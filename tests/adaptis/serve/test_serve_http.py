"""The HTTP interface of the page, with the network that ships."""
from __future__ import annotations

import dataclasses
import io
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from adaptis.errors import AdaptisError
from adaptis.inference.likeness import ImageStatistics
from adaptis.serve.networks import ServedNetwork
from adaptis.serve.uploads import UploadLimits
from adaptis.toy_data import ToySettings, render
from tests.adaptis.serve.page import SAMPLE, STATIC, an_object, client_of, decode, iou, make_app


@pytest.fixture(scope='module')
def client(network):
    with client_of(network) as client:
        yield client


def upload(client, data=None, model='toy_v1'):
    data = SAMPLE.png(0) if data is None else data
    return client.post(f'/api/images?model={model}', content=data)


@pytest.fixture
def image(client):
    return '/api/images/' + upload(client).json()['id']


def png(height, width):
    return cv2.imencode('.png', np.zeros((height, width, 3), np.uint8))[1].tobytes()


def test_the_page_and_all_its_files(client):
    assert 'AdaptIS' in client.get('/').text
    for file in STATIC.iterdir():
        answer = client.get(f'/{file.name}')
        assert answer.status_code == 200 and answer.content == file.read_bytes()
        assert 'http://' not in answer.text and 'https://' not in answer.text


def test_networks_and_samples(client):
    model, = client.get('/api/models').json()
    assert (model['name'], model['trainedOn']) == ('toy_v1', 'sticks')
    for number, sample in enumerate(model['samples']):
        answer = client.get(sample['url'])
        assert answer.headers['content-type'] == 'image/png'
        assert answer.content == SAMPLE.png(number)
    assert client.get('/samples/toy_v1/99').status_code == 404
    assert client.get('/samples/toy_v9/0').status_code == 404


def test_a_click_at_an_object_gives_its_mask(client, image):
    (x, y), truth = an_object()
    found = client.get(f'{image}/mask?x={x}&y={y}').json()
    assert iou(decode(found['mask']), truth) > 0.8
    assert 0.8 < found['score'] <= 1
    assert (found['categoryId'], found['name']) == (2, 'object')


def test_proposals_lie_on_objects(client, image):
    ids = SAMPLE.ids(0)
    points = client.get(f'{image}/proposals').json()
    on_objects = [ids[round(p['y']), round(p['x'])] > 0 for p in points]
    assert len(points) > 10 and np.mean(on_objects) > 0.9


def test_segment_everything_tells_progress_and_each_mask(client, image, network):
    answer = client.post(f'{image}/segments')
    events = [json.loads(line) for line in answer.text.splitlines()]
    done = [event['progress'] for event in events if 'progress' in event]
    early = [event['segment'] for event in events if 'segment' in event]
    segments = events[-1]['result']['segments']
    assert done[-1][0] == done[-1][1] and done == sorted(done)
    predictor = network.load()
    expected = predictor.set_image(
        cv2.cvtColor(cv2.imdecode(np.frombuffer(SAMPLE.png(0), np.uint8), 1), 4)).panoptic()
    assert len(segments) == len(expected.segments) and len(early) >= len(expected.things)
    for found, segment in zip(segments, expected.segments):
        assert (found['categoryId'], found['isthing']) == (segment.category_id, segment.isthing)
        assert np.array_equal(decode(found['mask']), expected.segment_map == segment.id)


def test_an_unusual_picture_is_opened_with_a_warning(network):
    known = [render(ToySettings.default('v1'), 'test', k)[0] for k in range(4)]
    statistics = ImageStatistics.of(known)
    with client_of(dataclasses.replace(network, statistics=statistics)) as client:
        assert upload(client).json()['warning'] is None
        assert 'is unlike all' in upload(client, png(96, 96)).json()['warning']


def test_many_at_once_get_what_one_alone_gets(client):
    """MXNet's networks break when two threads call them; here one thread does it for all."""
    images = ['/api/images/' + upload(client, SAMPLE.png(k)).json()['id'] for k in range(2)]
    paths = [f'{image}/mask?x={x}&y={y}' for image in images for x in (20, 60) for y in (30, 70)]
    alone = [client.get(path).json() for path in paths]
    with ThreadPoolExecutor(len(paths) + 2) as threads:
        everything = [threads.submit(client.post, f'{image}/segments') for image in images]
        together = [threads.submit(client.get, path) for path in paths]
        assert [answer.result().json() for answer in together] == alone
        for answer in everything:
            assert '"result"' in answer.result().text.splitlines()[-1]


@pytest.mark.parametrize('data, sentence', [
    (b'', 'cannot be read'), (b'no picture at all', 'cannot be read'),
    (SAMPLE.png(0)[:3000], 'cut short'), (b'GIF89a' + bytes(99), 'PNG, JPEG, WebP or BMP')])
def test_a_broken_file_is_told_in_a_sentence(client, data, sentence):
    answer = upload(client, data)
    assert answer.status_code == 400 and sentence in answer.json()['error']


def test_a_turned_photo_is_opened_as_a_viewer_shows_it(client):
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new('RGB', (40, 24)).save(data, 'JPEG', exif=exif)
    opened = upload(client, data.getvalue()).json()
    assert (opened['width'], opened['height']) == (24, 40)


def test_limits_of_an_upload(network):
    limits = UploadLimits(nbytes=5000, pixels=64 * 64)
    with client_of(network, upload=limits) as client:
        assert upload(client, png(64, 64)).status_code == 200
        assert upload(client, png(64, 65)).status_code == 413
        assert upload(client, bytes(5001)).status_code == 413
        streamed = client.post('/api/images?model=toy_v1', content=iter([bytes(4000)] * 2))
        assert streamed.status_code == 413


def test_a_large_picture_is_made_smaller(network):
    with client_of(network, max_side=64) as client:
        opened = upload(client, png(50, 200)).json()
        assert (opened['width'], opened['height']) == (64, 16)
        found = client.get(f"/api/images/{opened['id']}/mask?x=63&y=15").json()
        assert (found['mask']['width'], found['mask']['height']) == (64, 16)


def test_the_picture_used_longest_ago_goes_first(network):
    with client_of(network, sessions=2) as client:
        first, second = (upload(client, png(32, 32)).json()['id'] for _ in range(2))
        assert client.get(f'/api/images/{first}/proposals').status_code == 200
        upload(client, png(32, 32))
        assert client.get(f'/api/images/{first}/proposals').status_code == 200
        assert client.get(f'/api/images/{second}/proposals').status_code == 404


def test_memory_bounds_what_is_open(network):
    with client_of(network, memory=1) as client:
        first, second = (upload(client, png(32, 32)).json()['id'] for _ in range(2))
        assert client.get(f'/api/images/{first}/proposals').status_code == 404
        assert client.get(f'/api/images/{second}/proposals').status_code == 200


def test_a_closed_picture_is_gone(client, image):
    assert client.delete(image).status_code == 204
    answer = client.get(f'{image}/mask?x=1&y=1')
    assert answer.status_code == 404 and 'open it again' in answer.json()['error']


@pytest.mark.parametrize('query, sentence', [
    ('x=96&y=0', 'outside the image'), ('x=1', 'y must be a number'),
    ('x=nan&y=1', 'x must be a number'), ('x=one&y=1', 'x must be a number')])
def test_a_point_that_makes_no_sense(client, image, query, sentence):
    answer = client.get(f'{image}/mask?{query}')
    assert answer.status_code == 400 and sentence in answer.json()['error']


def test_an_unknown_network(client):
    assert upload(client, model='toy_v9').status_code == 404


def test_a_network_that_cannot_be_loaded_stops_the_start():
    def load():
        raise AdaptisError('net.params is missing.')
    app = make_app([ServedNetwork('net', 'Net', 'nothing', load, None)])
    with pytest.raises(AdaptisError, match='net.params is missing'):
        app.state.load_first()


def test_a_bug_is_told_without_its_trace(network):
    broken = ServedNetwork('toy_v1', 'Toy', 'sticks', lambda: 1 / 0, None)
    with client_of(broken) as client:
        answer = upload(client)
    assert answer.status_code == 500 and 'division' not in answer.text
