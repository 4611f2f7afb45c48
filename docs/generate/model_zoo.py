"""Model cards of the networks that ship, from their sidecars and records."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptis.evaluation.ap import TABLE_1_KEYS
from adaptis.evaluation.record import ROOT, read_json, read_records, sha256, short_commit
from adaptis.weights import weights_file
from experiments.side_by_side.run import load_results

HEAD = """# Networks that ship

None of these networks was trained on photographs. `adaptis predict` warns about images unlike those
that a network learned from. For photographs, train on [your own data](own_data.md) or
[convert an official checkpoint](tutorials/convert.md).
"""

FETCHED_BY_WHEELS = ('A checkout has it; an installed wheel fetches it from the release that '
                     '`ADAPTIS_RELEASE` names and checks its SHA-256.')
OFFICIAL_WIDTH = 32
UNDERTRAINED = 'Undertrained: the paper reaches 99.6 / 99.2 / 98.8 / 97.5.'


def page() -> str:
    """The page of all model cards."""
    return '\n\n'.join([HEAD, _toy_v1(), _toy_v1_wide(), _toy_v2(), _streets()]) + '\n'


def _toy_v1() -> str:
    return _toy('toy_v1', 'toy_v1_long', {
        'Use': '`adaptis.load_predictor()`, `adaptis predict`; continue training: `--init toy_v1`',
        'Data': 'ToyV1 as `adaptis toy --version v1` draws it, 10,000 training images of 96x96',
        'Limits': f'{UNDERTRAINED} Objects that others split are often found in parts. Trained '
                  'only on images up to 96x96.'})


def _toy_v1_wide() -> str:
    return _toy('toy_v1_wide', 'toy_v1_wide', {
        'Use': '`adaptis.load_predictor("toy_v1_wide")`, `adaptis predict --checkpoint '
               f'toy_v1_wide`. {FETCHED_BY_WHEELS} It takes 2.3 times as long as toy_v1.',
        'Data': 'as toy_v1',
        'Limits': f'{UNDERTRAINED} Trained only on images up to 96x96.'})


def _toy_v2() -> str:
    return _toy('toy_v2', 'toy_v2_long', {
        'Use': '`adaptis.load_predictor("toy_v2")`, `adaptis predict --checkpoint toy_v2`',
        'Data': 'ToyV2 as `adaptis toy --version v2` draws it, the first 8,800 of 25,000 training '
                'images of 128x128',
        'Limits': 'Hardly trained: the official network has a PQ of 98.58. Objects that others '
                  'split are often found in parts. Trained only on images up to 128x128.'})


def _toy(name: str, label: str, texts: Mapping[str, str]) -> str:
    """The card of a toy network; ``label`` is that of its record."""
    path = weights_file(name)
    info = read_json(path.with_suffix('.json'))
    metrics = next(r['metrics'] for r in read_records(ROOT / 'experiments/results')
                   if r['label'] == label)
    ap = ' / '.join(f'{100 * metrics["ap"][key]:.1f}' for key in TABLE_1_KEYS.values())
    facts = {
        'System': f'AdaptIS with the U-Net of the toy problem, width {info["model"]["width"]} '
                  f'(official: {OFFICIAL_WIDTH})',
        'Use': texts['Use'], 'Data': texts['Data'], 'Recipe': _recipe(info['trained']),
        'Measured': f'AP .5 / .7 / .8 / .9 {ap}, PQ {100 * metrics["pq"]["All"]["pq"]:.1f}, on '
                    f'{metrics["images"]:,} test images ([all results](results/toy.md))',
        'Limits': texts['Limits'], **_file(path)}
    return _card(name, facts)


def _streets() -> str:
    path = weights_file('toy_street')
    result = next(r for r in load_results() if r['system'] == 'adaptis')
    quality = result['quality']['pq']
    pq = ', '.join(f'{name.lower()} {100 * quality[name]["pq"]:.1f}'
                   for name in ('All', 'Things', 'Stuff'))
    hardware, seconds = result['hardware'], result['training']['seconds']
    facts = {
        'System': 'AdaptIS with ResNet-18 and a pyramid of 64 channels',
        'Use': '`adaptis.load_predictor("toy_street")`, `adaptis predict --checkpoint '
               f'toy_street`. {FETCHED_BY_WHEELS}',
        'Data': 'street scenes as `adaptis toy --version street` draws them, 4,000 of 128x256',
        'Recipe': f'`python -m experiments.side_by_side adaptis`, seed {result["seed"]}, commit '
                  f'{short_commit(result["commit"])}, {seconds / 60:.0f} minutes on '
                  f'{hardware["cpu"]}',
        'Measured': f'PQ: {pq}, on {result["quality"]["images"]} scenes '
                    '([five systems side by side](results/side_by_side.md))',
        'Limits': 'Misses most small objects, and most objects that others cover by more than a '
                  'third.',
        **_file(path)}
    return _card('toy_street', facts)


def _recipe(trained: Mapping[str, Any]) -> str:
    before = f'{_recipe(trained["from"])}; then ' if 'from' in trained else ''
    commits = ', '.join(map(short_commit, trained['commits']))
    return (f'{before}`{trained["command"]}` (commit {commits}; {trained["hardware"]["cpu"]}; log '
            f'`{trained["log"]}`)')


def _file(path: Path) -> dict[str, str]:
    return {'File': f'`{path.relative_to(ROOT)}`, {path.stat().st_size / 1e6:.1f} MB, float16, '
                    f'SHA-256 `{sha256(path)}`',
            'Licence': 'Apache-2.0'}


def _card(name: str, facts: Mapping[str, str]) -> str:
    rows = '\n'.join(f'| {key} | {value} |' for key, value in facts.items())
    return f'## {name}\n\n| property | value |\n| --- | --- |\n{rows}'
