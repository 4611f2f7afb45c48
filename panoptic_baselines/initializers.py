"""Initial values of a detector's parameters, as in the official recipes."""
from __future__ import annotations

import re
from typing import Any

from adaptis.runtime import mx

# Uniform within sqrt(3 / inputs), and normal with a deviation of sqrt(2 / outputs).
_XAVIER = mx.init.Xavier('uniform', 'in', 3)
_MSRA = mx.init.Xavier('gaussian', 'out', 2)

RULES: list[tuple[str, Any]] = [
    (r'(semantic_)?encoder[.](fpn|squeeze|mask_branch)[.].+|things_head[.].+'
     r'|box_head[.]fc\d[.]weight', _XAVIER),
    (r'encoder[.](rpn|head)[.].+|box_head[.]cls_score[.]weight', mx.init.Normal(0.01)),
    (r'box_head[.]bbox_pred[.]weight|mask_head[.]predictor[.]weight', mx.init.Normal(0.001)),
    (r'(semantic_)?encoder[.](backbone|semantic_head|affinity_head)[.].+|mask_head[.].+', _MSRA),
]
"""Maps a pattern for parameter names to the initializer of these weights."""


def set_initializers(net: Any, rules: list[tuple[str, Any]] = RULES) -> None:
    """Set the initializer of every ``.weight`` according to the first rule that matches its name.

    Layers that were created with an initializer keep it; biases start at 0 anyway.
    """
    for name, parameter in net._collect_params_with_prefix().items():
        found = [init for pattern, init in rules if re.fullmatch(pattern, name)]
        if name.endswith('.weight') and found and parameter.init is None:
            parameter.init = found[0]
