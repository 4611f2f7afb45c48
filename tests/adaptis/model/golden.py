"""Networks with the weights of the golden data."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from adaptis.convert.names import map_names
from adaptis.model import get_model
from adaptis.model.zoo import set_parameters
from adaptis.runtime import mx
from tests.golden import weights


def official_arrays(parity_root: Path, folder: str) -> dict[str, Any]:
    """What the official checkpoint of a golden case would hold, by official name."""
    arrays = weights.load(parity_root / 'adaptis' / folder / 'names.json')
    return {name: mx.nd.array(value) for name, value in arrays.items()}


def official_net(parity_root: Path, folder: str, name: str, **options: Any) -> Any:
    """Our network with the official weights of a golden case."""
    arrays = official_arrays(parity_root, folder)
    net = get_model(name, official=True, **options)
    net.initialize()
    mapped, unknown = map_names(arrays, name)
    assert not unknown
    set_parameters(net, {mapped[key]: value for key, value in arrays.items()}, folder)
    return net
