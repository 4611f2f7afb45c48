"""Size a training on several GPUs on paper: hours, traffic, loading, and what limits it."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.benchmarks.roofline import FLOAT, Device

GPUS = (1, 8, 64)
A_MACHINE = 8
"""GPUs in a machine."""
CORES = 8
"""Cores of a machine for each of its GPUs."""
UTILISATION = (0.3, 0.7)
"""Share of the bound (every operator by itself) that a training is assumed to reach."""
NETWORKS = {'10 Gbit/s': 1.25, '100 Gbit/s': 12.5}   # GB/s in each direction
PASSES = {'instances': 3, 'joint': 3, 'proposals': 1}
"""Forward passes that a step costs, by stage: backwards takes about two.  AdaptIS's proposals learn
on frozen features, whose backward pass is left out."""


class Stage(NamedTuple):
    """A stage of a training.

    Attributes
    ----------
    name : 'instances', 'proposals' or 'joint'
    images : that it sees, epochs together
    batch : images of a step in the recipe
    bounds : seconds of a forward pass of an image at least, by device and precision
    """

    name: str
    images: int
    batch: int
    bounds: Mapping[tuple[str, str], float]


class Training(NamedTuple):
    """A whole training.

    Attributes
    ----------
    parameters : how many numbers its gradient has
    states : arrays of the optimizer of that size
    """

    title: str
    recipe: str
    stages: Sequence[Stage]
    parameters: int
    states: int


class Plan(NamedTuple):
    """A training on a number of GPUs; pairs are (at worst, at best) of ``UTILISATION``.

    Attributes
    ----------
    batch, steps : images of a step, all GPUs together, and steps of the first stage
    hours : of computing in all stages
    step : seconds of a step of the first stage
    rate : images a second that a machine needs in the first stage
    exchange : GB that a machine sends in a step, and receives, to other machines
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
        """How many machines there are."""
        return -(-self.gpus // A_MACHINE)

    def network_seconds(self, speed: float) -> float:
        """Seconds that a step's exchange takes over a network of ``speed`` GB/s."""
        return self.exchange / speed

    def network_hours(self, speed: float) -> tuple[float, float]:
        """Hours with the exchanges of the first stage, which wait for each other."""
        waiting = self.steps * self.network_seconds(speed) / 3600
        return self.hours[0] + waiting, self.hours[1] + waiting

    def cores(self, rate: float) -> tuple[float, float]:
        """Cores of a machine that load its images, ``rate`` a second each."""
        return self.rate[0] / rate, self.rate[1] / rate


def plan(training: Training, gpus: int, device: Device, precision: str) -> Plan:
    """Return the plan of a training.

    A batch is shared by the GPUs.  If there are more GPUs than it has images, each gets one, so the
    batch grows, its steps become fewer, and its learning rate has to be adapted.
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
    """Return the GB that each machine sends in a step, and receives.

    A ring that reduces gradients sends 2 (m - 1) / m times their size.  So do m parameter servers,
    one in each machine: a machine sends the others' shares of its gradient to their servers, and
    its server sends its share of the weights to the others.
    """
    return 2 * (machines - 1) / machines * parameters * FLOAT / 1e9


def at_one_server(parameters: int, machines: int) -> float:
    """Return the GB that a single parameter server in a machine of its own receives in a step."""
    return machines * parameters * FLOAT / 1e9


def limit(found: Plan, core_rate: float, network: float) -> str:
    """Name what limits a plan at its best utilisation: where it would be first if all else grew.

    ``core_rate`` : images a second that a core loads; ``network`` : GB/s
    """
    shares = {'the GPUs': 1.0,
              'loading': found.cores(core_rate)[1] / (CORES * min(found.gpus, A_MACHINE)),
              'the network': found.network_seconds(network) / found.step[1]}
    return max(shares, key=lambda name: shares[name])


def checkpoint_gb(training: Training) -> float:
    """Return the GB of a checkpoint that a training resumes from."""
    return (1 + training.states) * training.parameters * FLOAT / 1e9


def _image_seconds(stage: Stage, device: Device, precision: str) -> float:
    """Seconds of an image in a step, at full utilisation."""
    return PASSES[stage.name] * stage.bounds[device.name, precision]


def _range(seconds: Any) -> tuple[float, float]:
    return seconds / UTILISATION[0], seconds / UTILISATION[1]
