"""Reference pages, made from the command line's parsers and the config's dataclasses."""
from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from adaptis import cli
from adaptis.config import TrainConfig

SETTINGS = ('adaptis.inference.settings.AdaptISSettings',
            'panoptic_baselines.settings.BaseSettings',
            'panoptic_baselines.panoptic_fpn.settings.PanopticFPNSettings',
            'panoptic_baselines.condinst.settings.CondInstSettings',
            'panoptic_baselines.dense_detections.settings.DenseDetectionsSettings',
            'panoptic_baselines.unified.settings.UnifiedSettings')
API = {'Predictors': ('adaptis.loading.load_predictor', 'adaptis.loading.predict',
                      'adaptis.inference.predictor.Predictor',
                      'adaptis.inference.predictor.ClickResult'),
       'Networks': ('adaptis.loading.get_model', 'adaptis.loading.list_models'),
       'Types': ('adaptis.types.PanopticResult', 'adaptis.types.Taxonomy',
                 'adaptis.types.Sample'),
       'Pictures': ('adaptis.files.read_image', 'adaptis.viz.overlay_panoptic'),
       'Formats of other libraries': ('adaptis.interop',),
       'Measures': ('adaptis.evaluation.pq.PanopticQuality',
                    'adaptis.evaluation.ap.AveragePrecision',
                    'adaptis.evaluation.clicks.ClickQuality'),
       'Losses': ('adaptis.losses',)}


def commands_page() -> str:
    """Every command with its usage and its options."""
    parts = ['# Commands', 'Every command of `adaptis`. `adaptis COMMAND --help` prints the same.']
    for name in cli.COMMANDS:
        parser = cli.command_parser(name)
        usage = parser.format_usage().partition(':')[2]
        parts += [f'## adaptis {name}', _sentence(parser.description),
                  f'```text\n{textwrap.dedent(usage).strip()}\n```', _options(parser)]
    return '\n\n'.join(parts) + '\n'


def config_page() -> str:
    """Every key of a training config with its type, default and meaning."""
    parts = ['# Config keys', 'A config is one YAML file, for instance '
             '`experiments/toy_v1_cpu.yaml`. It may name one other config as its `base`. '
             '`--set key.key=value` changes a key on the command line. An unknown key is an error.']
    for prefix, cls in _config_classes(TrainConfig, ''):
        doc = ' '.join((inspect.getdoc(cls) or '').split())
        title = f'In `{prefix.rstrip(".")}`' if prefix else 'Top level'
        parts += [f'## {title}', doc.replace('``', '`'), _keys(cls)]
    return '\n\n'.join(parts) + '\n'


def settings_page() -> str:
    """The inference settings of each system, from their docstrings."""
    parts = ['# Inference settings', 'You change these settings with `--set KEY=VALUE` of '
             '`adaptis predict` and `adaptis evaluate`, or with the key `inference` of a config. '
             '`--preset NAME` sets all of them at once. Settings that are not listed under a '
             'system are in `BaseSettings`.']
    return '\n\n'.join([*parts, *(f'::: {name}' for name in SETTINGS)]) + '\n'


def api_page() -> str:
    """The Python API, from its docstrings."""
    parts = ['# Python', 'The package itself offers the first names as well: '
             '`adaptis.load_predictor`, `adaptis.Predictor`, `adaptis.get_model`, '
             '`adaptis.read_image`. `adaptis.draw` is `overlay_panoptic`.']
    for title, names in API.items():
        parts += [f'## {title}', *(f'::: {name}' for name in names)]
    return '\n\n'.join(parts) + '\n'


def key_meanings(cls: type) -> dict[str, str]:
    """The comment behind each field of a dataclass: what the key means."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    return {node.target.id: lines[node.end_lineno - 1].partition('  # ')[2].strip()
            for node in ast.parse(source).body[0].body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def _options(parser: argparse.ArgumentParser) -> str:
    rows = ['| option | meaning |', '| --- | --- |']
    for action in parser._actions:
        if action.dest != 'help':
            rows.append(f'| {_names(action)} | {_cell(_help(action, parser))} |')
    return '\n'.join(rows)


def _names(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    value = ' '.join(value) if isinstance(value, tuple) else value
    if action.choices is not None:
        value = '{' + ','.join(map(str, action.choices)) + '}'
    if not action.option_strings:
        return f'`{_cell(value)}`'
    takes = '' if action.nargs == 0 else f' {value}'
    return ', '.join(f'`{_cell(name + takes)}`' for name in action.option_strings)


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or '') % {**vars(action), 'prog': parser.prog}
    return text + '; required' * action.required * bool(action.option_strings)


def _config_classes(cls: type, prefix: str) -> Iterator[tuple[str, type]]:
    """A class and those of its fields, each with the prefix of its keys; each class once."""
    yield prefix, cls
    keys: dict[type, list[str]] = {}
    for name, hint in get_type_hints(cls).items():
        for inner in filter(dataclasses.is_dataclass, (hint, *get_args(hint))):
            keys.setdefault(inner, []).append(name)
    for inner, names in keys.items():
        yield from _config_classes(inner, f'{prefix}{", ".join(names)}.')


def _keys(cls: type) -> str:
    meanings, hints = key_meanings(cls), get_type_hints(cls)
    rows = ['| key | type | default | meaning |', '| --- | --- | --- | --- |']
    for field in dataclasses.fields(cls):
        rows.append(f'| `{field.name}` | {_cell(_type(hints[field.name]))} | {_default(field)} | '
                    f'{_cell(meanings[field.name].replace("``", "`"))} |')
    return '\n'.join(rows)


def _type(hint: Any) -> str:
    if get_origin(hint) is Union:
        return ' or '.join('null' if kind is type(None) else _type(kind)
                           for kind in get_args(hint))
    if dataclasses.is_dataclass(hint):
        return 'keys'
    inner = [_type(kind) for kind in get_args(hint)]
    if get_origin(hint) is dict:
        return 'mapping'
    name = {'str': 'text', 'int': 'whole number', 'float': 'number', 'bool': 'true or false',
            'Any': 'any'}.get(getattr(hint, '__name__', ''), getattr(hint, '__name__', str(hint)))
    return f'list of {inner[0]}s' if get_origin(hint) is list else name


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
        words = {None: 'null', True: 'true', False: 'false'}
        return f'`{words[value] if value is None or isinstance(value, bool) else value}`'
    if field.default_factory is dataclasses.MISSING:
        return 'required'
    value = field.default_factory()
    return f'`{value}`' if isinstance(value, (list, dict)) else 'see below'


def _sentence(text: str) -> str:
    return ' '.join(text.split())


def _cell(text: Union[str, Sequence[str], Iterable[str]]) -> str:
    return _sentence(str(text)).replace('|', '\\|').replace('<', '&lt;')
