"""All subjects.  Add one line here for each new file in this folder."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Optional

from experiments.benchmarks import (
    affinity_memory,
    clicks,
    cost,
    dense_detections,
    forms,
    full_runs,
    gpu_bounds,
    loader,
    memory,
    onnx_devices,
    ports,
    pq,
    quantization,
    size,
    speed,
    training_step,
    unified,
    web_page,
)
from experiments.benchmarks.comparison import Comparison

SUBJECTS: dict[str, ModuleType] = {
    'speed': speed,
    'training_step': training_step,
    'cost': cost,
    'ports': ports,
    'dense_detections': dense_detections,
    'unified': unified,
    'affinity_memory': affinity_memory,
    'forms': forms,
    'quantization': quantization,
    'clicks': clicks,
    'onnx_devices': onnx_devices,
    'web_page': web_page,
    'memory': memory,
    'loader': loader,
    'pq': pq,
    'size': size,
    'gpu_bounds': gpu_bounds,
    'full_runs': full_runs,
}
"""Each has ``add_arguments(parser)`` and ``run(args)``; its docstring starts with a sentence.
Those that also have ``COMPARISONS`` take part in the run without a subject."""


def comparisons(names: Optional[Collection[str]] = None) -> Iterator[Comparison]:
    """Yield all comparisons, or those with these names or subjects."""
    for subject, module in SUBJECTS.items():
        for comparison in getattr(module, 'COMPARISONS', ()):
            if names is None or subject in names or comparison.name in names:
                yield comparison


def subject_of(name: str) -> str:
    """Return the subject that a comparison belongs to."""
    return next(subject for subject, module in SUBJECTS.items()
                if any(c.name == name for c in getattr(module, 'COMPARISONS', ())))
