"""Join a Mask R-CNN and a Semantic FPN that were trained separately into one network (table 3a).

    python -m panoptic_baselines.panoptic_fpn.join MASK_RCNN.params SEMANTIC_FPN.params OUT.params

The result is a ``PanopticFPN`` with ``separate`` branches, which all commands accept.  For example,
``adaptis evaluate CONFIG --checkpoint OUT.params`` evaluates the merged results of both.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from adaptis.errors import AdaptisError
from adaptis.evaluation.record import file_facts
from adaptis.inference.sidecar import read_sidecar
from adaptis.model import save_model
from panoptic_baselines.panoptic_fpn.network import PanopticFPN
from panoptic_baselines.zoo import MODELS, get_model, load_model

_BRANCHES = ('instances', 'semantic')


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Join two checkpoints; returns 0, or 1 after an error message on stderr."""
    parser = argparse.ArgumentParser(prog='python -m panoptic_baselines.panoptic_fpn.join',
                                     description=__doc__.split('\n', 1)[0])
    parser.add_argument('instances', type=Path, help='a trained Mask R-CNN')
    parser.add_argument('semantic', type=Path, help='a trained Semantic FPN')
    parser.add_argument('out', type=Path, help='the file to write')
    args = parser.parse_args(argv)
    try:
        join(args.instances, args.semantic, args.out)
    except AdaptisError as error:
        print(f'join: {error}', file=sys.stderr)
        return 1
    except OSError as error:
        print(f'join: {error.filename or args.out}: {error.strerror or error}', file=sys.stderr)
        return 1
    print(f'Wrote {args.out}.')
    return 0


def join(instances: Path, semantic: Path, out: Path) -> None:
    """Write the joint network to ``out``, with its description beside it.

    Raises AdaptisError if a file cannot be read or contains a different network, or if the options
    or classes of the two networks differ.
    """
    parts = [load_model(path) for path in (instances, semantic)]
    for path, part, branch in zip((instances, semantic), parts, _BRANCHES):
        if not isinstance(part, PanopticFPN) or _branches(part) != [branch]:
            kind = {'instances': 'Mask R-CNN', 'semantic': 'Semantic FPN'}[branch]
            raise AdaptisError(f'{path} is not a {kind}.')
    options = _joined_options(*(_options(part.description) for part in parts))
    told = [read_sidecar(path).get('taxonomy') for path in (instances, semantic)]
    if told[0] != told[1]:
        raise AdaptisError(f'{instances} and {semantic} were trained for different classes: train '
                           'both on the same data set.')
    net = get_model('panoptic_fpn', **options, separate=True)
    net.initialize()
    arrays = {name: parameter.data() for part in parts
              for name, parameter in _renamed(part).items()}
    for name, parameter in net._collect_params_with_prefix().items():
        parameter.set_data(arrays[name])
    save_model(net, out, {**({'taxonomy': told[0]} if told[0] else {}), 'joined': {
        branch: file_facts(path) for branch, path in zip(_BRANCHES, (instances, semantic))}})


def _branches(net: Any) -> list[str]:
    return [name for name in _BRANCHES if getattr(net, f'has_{name}')]


def _options(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's constructor arguments, with those that its name fixes, but no branches."""
    fixed = MODELS[description['name']][1]
    return {key: value for key, value in {**fixed, **description}.items()
            if key not in ('name', 'pretrained', *_BRANCHES)}


def _joined_options(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            raise AdaptisError(f'The two networks differ in {key} ({first.get(key)} and '
                               f'{second.get(key)}): build both with the same options.')
    return dict(first)


def _renamed(net: Any) -> dict[str, Any]:
    """Return the parameters by their names in the joint network."""
    prefix = 'semantic_' if net.has_semantic else ''
    return {prefix + name: parameter
            for name, parameter in net._collect_params_with_prefix().items()}


if __name__ == '__main__':
    sys.exit(main())
