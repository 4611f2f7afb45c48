"""Widen a trained toy network without changing its output, so that training can continue.

    python -m experiments.widen CHECKPOINT --width 32 --out WIDE.params
    adaptis train experiments/toy_v1_long.yaml --set model.width=32 --init WIDE.params

This is in neither the paper nor the official code.  The new channels of every layer are initialised
like those of a new network, but they do not affect the old channels, because their weights into the
old channels are 0 (like Net2Net of Chen, Goodfellow and Shlens, ICLR 2016, which copies channels
instead).
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from adaptis.errors import AdaptisError

WIDTH = 32
"""Width of an adaptis_toy without a width in its description."""
JOINED = 'join.0.0.weight'
"""A layer whose input is two feature maps of equal width (see ``UpLevel``)."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write the wider network; return the exit status."""
    parser = argparse.ArgumentParser(prog='python -m experiments.widen',
                                     description=__doc__.partition('\n')[0])
    parser.add_argument('checkpoint', type=Path, help='a trained adaptis_toy')
    parser.add_argument('--width', type=int, required=True)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    args = parser.parse_args(argv)
    from adaptis.model.zoo import load_model, save_model  # loads MXNet
    try:
        wide = widen(load_model(args.checkpoint), args.width, args.seed)
        save_model(wide, args.out, {'widened': {'from': str(args.checkpoint), 'seed': args.seed}})
    except AdaptisError as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1
    return 0


def widen(net: Any, width: int, seed: int = 0) -> Any:
    """Return an ``adaptis_toy`` of more channels with the outputs of ``net``, up to rounding.

    Raises AdaptisError if ``net`` is another network or not narrower.
    """
    from adaptis.model.zoo import get_model  # loads MXNet
    from adaptis.runtime import mx
    description = dict(net.description)
    if description['name'] != 'adaptis_toy' or width <= description.get('width', WIDTH):
        raise AdaptisError('Only an adaptis_toy can be widened, and only to more channels: the '
                           f'network is {description}, and the width asked for is {width}.')
    mx.random.seed(seed)
    wide = get_model(**{**description, 'width': width})
    wide.initialize(mx.init.Xavier())
    wide(mx.nd.zeros((1, 3, 32, 32)), mx.nd.ones((1, 1, 2)))   # gives all parameters their shapes
    parameters = wide._collect_params_with_prefix()
    for name, narrow in net._collect_params_with_prefix().items():
        value = embed(narrow.data().asnumpy(), parameters[name].data().asnumpy(),
                      parts=2 if name.endswith(JOINED) else 1)
        parameters[name].set_data(mx.nd.array(value))
    return wide


def embed(old: np.ndarray, new: np.ndarray, parts: int = 1) -> np.ndarray:
    """Return ``new`` with ``old`` in it: the first outputs are those of the first inputs alone.

    Axis 0 has outputs and axis 1, if there is one, inputs; these are ``parts`` maps of equal width,
    one after another, and each begins with its old channels.
    """
    result, outputs = new.copy(), slice(old.shape[0])
    if old.ndim == 1:
        result[outputs] = old
        return result
    was, now = old.shape[1] // parts, new.shape[1] // parts
    inputs = np.concatenate([part * now + np.arange(was) for part in range(parts)])
    result[outputs] = 0
    result[outputs, inputs] = old
    return result


if __name__ == '__main__':
    sys.exit(main())
