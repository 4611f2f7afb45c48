"""Estimate a training on several GPUs: hours, traffic, loading, and what limits it."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.benchmarks.roofline import FLOAT, Device

GPUS = (1, 8, 64)
A_MACHINE = 8
"""GPUs per machine."""
CORES = 8
"""CPU cores per GPU."""
UTILISATION = (0.3, 0.7)
"""Assumed utilisation: share of the bound (with unfused operators) that a training reaches."""
NETWORKS = {'10 Gbit/s': 1.25, '100 Gbit/s': 12.5}   # GB/s in each direction
PASSES = {'instances': 3, 'joint': 3, 'proposals': 1}
"""Forward passes that a step costs, by stage; the backward pass takes about two.  The proposal
stage of AdaptIS uses frozen features, which have no backward pass."""


class Stage(NamedTuple):
    """A stage of a training.

    Attributes
    ----------
    name : 'instances', 'proposals' or 'joint'
    images : number of images over all epochs
    batch : images per step in the recipe
    bounds : minimum seconds of a forward pass of one image, by device and precision
    """

    name: str
    images: int
    batch: int
    bounds: Mapping[tuple[str, str], float]


class Training(NamedTuple):
    """A complete training.

    Attributes
    ----------
    parameters : number of parameters with a gradient
    states : number of optimizer arrays of that size
    """

    title: str
    recipe: str
    stages: Sequence[Stage]
    parameters: int
    states: int


class Plan(NamedTuple):
    """A training on a number of GPUs; pairs are for the worst and the best ``UTILISATION``.

    Attributes
    ----------
    batch, steps : images per step on all GPUs, and number of steps of the first stage
    hours : hours of computation in all stages
    step : seconds per step of the first stage
    rate : images per second that a machine needs in the first stage
    exchange : GB that a machine sends to other machines, and receives, per step
    """

    gpus: int
    batch: int
    steps: int
    hours: tuple[float, float]
    step: tuple[float, float]
    rate: tuple[float, float]
    exchange: float

    @property
    def machines(self) -> int:
        """Number of machines."""
        return -(-self.gpus // A_MACHINE)

    def network_seconds(self, speed: float) -> float:
        """Seconds that a step's exchange takes over a network of ``speed`` GB/s."""
        return self.exchange / speed

    def network_hours(self, speed: float) -> tuple[float, float]:
        """Hours including the exchanges of the first stage, which do not overlap computation."""
        waiting = self.steps * self.network_seconds(speed) / 3600
        return self.hours[0] + waiting, self.hours[1] + waiting

    def cores(self, rate: float) -> tuple[float, float]:
        """Cores that a machine needs for loading, if a core loads ``rate`` images per second."""
        return self.rate[0] / rate, self.rate[1] / rate


def plan(training: Training, gpus: int, device: Device, precision: str) -> Plan:
    """Return the plan of a training.

    The GPUs share a batch.  If there are more GPUs than images in it, each GPU gets one image.
    Then the batch is larger, there are fewer steps, and the learning rate must be adapted.
    """
    seconds = [_image_seconds(stage, device, precision) for stage in training.stages]
    shares = [max(1, stage.batch // gpus) for stage in training.stages]
    hours = sum(math.ceil(stage.images / (share * gpus)) * share * second / 3600
                for stage, share, second in zip(training.stages, shares, seconds))
    machines = -(-gpus // A_MACHINE)
    here = min(gpus, A_MACHINE)
    steps = math.ceil(training.stages[0].images / (shares[0] * gpus))
    return Plan(gpus, shares[0] * gpus, steps, _range(hours), _range(shares[0] * seconds[0]),
                (here * UTILISATION[0] / seconds[0], here * UTILISATION[1] / seconds[0]),
                exchanged(training.parameters, machines))


def exchanged(parameters: int, machines: int) -> float:
    """Return the GB that each machine sends, and receives, per step.

    A ring all-reduce sends 2 (m - 1) / m times the size of the gradients.  So do m parameter
    servers, one on each machine: a machine sends the others' shares of its gradient to their
    servers, and its server sends its share of the weights to the others.
    """
    return 2 * (machines - 1) / machines * parameters * FLOAT / 1e9


def at_one_server(parameters: int, machines: int) -> float:
    """Return the GB that a single parameter server on a separate machine receives per step."""
    return machines * parameters * FLOAT / 1e9


def limit(found: Plan, core_rate: float, network: float) -> str:
    """Return the name of the bottleneck of a plan at its best utilisation.

    ``core_rate`` : images per second that a core loads; ``network`` : GB/s
    """
    shares = {'the GPUs': 1.0,
              'loading': found.cores(core_rate)[1] / (CORES * min(found.gpus, A_MACHINE)),
              'the network': found.network_seconds(network) / found.step[1]}
    return max(shares, key=lambda name: shares[name])


def checkpoint_gb(training: Training) -> float:
    """Return the GB of a checkpoint that a training resumes from."""
    return (1 + training.states) * training.parameters * FLOAT / 1e9


def _image_seconds(stage: Stage, device: Device, precision: str) -> float:
    """Return the seconds per image in a step, at full utilisation."""
    return PASSES[stage.name] * stage.bounds[device.name, precision]


def _range(seconds: Any) -> tuple[float, float]:
    return seconds / UTILISATION[0], seconds / UTILISATION[1]
