"""The README of an exported network, for people who have only the folder."""
from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

_TEXT = """# {name}, exported

A trained network for panoptic segmentation, stored as graphs.  It has {classes} classes, {things}
of them things.  It was written by `adaptis export` {version}{source}.

## With the AdaptIS package

MXNet is not needed. Install the package itself and three others:

    python -m pip install --no-deps adaptis-*.whl    # or the path of the source tree
    python -m pip install numpy opencv-python-headless onnxruntime    # onnxruntime-gpu: NVIDIA GPUs
    adaptis predict picture.png --out results --export THIS_FOLDER --backend onnxruntime

```python
from adaptis.files import read_image
from adaptis.inference.predictor import Predictor

predictor = Predictor.from_export('THIS_FOLDER', backend='onnxruntime', ctx='cpu')  # or 'gpu'
result = predictor.set_image(read_image('picture.png')).panoptic()
result.segment_map, result.segments
```
{mxnet}
`export.json` contains everything else: categories, thresholds (`inference`), the signature of each
stage, sizes and digests of the files, and the origin of the network.

## Without the package

{preprocessing}

Each stage takes its inputs by name from the outputs of earlier stages. Names in shapes stand for
dynamic sizes; the shapes of outputs are an example. The work between the stages (choosing points,
suppressing boxes, assigning pixels to objects) is not in the graphs but in the NumPy code of the
package.
{precision}
| stage | inputs | outputs, for instance | files |
| --- | --- | --- | --- |
{stages}
{rois}"""

_ROIS = """
`pool_box` and `pool_mask` pool boxes from one level of the pyramid at a time. A row of `rois` is
the index of the image, which is 0, and x0, y0, x1, y1 in pixels of that level, which are image
pixels divided by the level's stride (p2: 4, p3: 8, p4: 16, p5: 32). Make sure that x1 > x0 and
y1 > y0, because MXNet's operator aborts the process otherwise.
"""

_FLOAT16 = """
The ONNX models compute in float16 where it is safe, and are meant for GPUs.  Their inputs and
outputs are float32.
"""

_MXNET = """
With MXNet 1.9.1, `backend='mxnet'` gives exactly the results of the original network.
"""


def describe_export(manifest: Mapping[str, Any]) -> str:
    """Return the README text for a manifest."""
    things = sum(category['isthing'] for category in manifest['taxonomy'])
    has_mxnet = any('symbol' in stage['files'] for stage in manifest['stages'].values())
    checkpoint = manifest['source'].get('file')
    return _TEXT.format(
        name=manifest['model']['name'], things=things, classes=len(manifest['taxonomy']),
        version=manifest['versions']['adaptis'], source=f' from `{checkpoint}`' * bool(checkpoint),
        mxnet=_MXNET * has_mxnet, preprocessing=_preprocessing(manifest['preprocessing']),
        stages='\n'.join(_row(name, stage) for name, stage in manifest['stages'].items()),
        precision=_FLOAT16 * (manifest.get('onnx_precision') == 'float16'),
        rois=_ROIS * ('pool_box' in manifest['stages']))


def _preprocessing(facts: Mapping[str, Any]) -> str:
    sentences = ['The input image is float32 (1, 3, H, W), RGB, 0 to 255; **mean and standard '
                 'deviation are applied inside the graph**.']
    if facts['short_side']:
        limit = f', or fewer so that the longer one does not exceed {facts["max_side"]}'
        sentences.append(f'Resize it so that its shorter side has {facts["short_side"]} '
                         f'pixels{limit * bool(facts["max_side"])}.')
    elif facts['max_side']:
        sentences.append(f'Shrink it if needed so that no side exceeds {facts["max_side"]} pixels.')
    needs = [f'multiples of {facts["divisor"]}'] * (facts['divisor'] > 1)
    needs += [f'at least {facts["min_side"]} pixels'] * (facts['min_side'] > 1)
    if needs:
        sentences.append(f'Both sides must be {" and ".join(needs)}: it is padded '
                         f'{facts["padding"]}.')
    return textwrap.fill(' '.join(sentences), 100)


def _row(name: str, stage: Mapping[str, Any]) -> str:
    inputs = '; '.join(f'`{s["name"]}` ({_text(s["shape"])})' for s in stage['inputs'])
    outputs = '; '.join(f'`{s["name"]}` ({_text(s["example"])})' for s in stage['outputs'])
    files = ', '.join(f'`{file}`' for file in stage['files'].values())
    return f'| {name} | {inputs} | {outputs} | {files} |'


def _text(shape: list[Any]) -> str:
    return ', '.join(str(part) for part in shape)
