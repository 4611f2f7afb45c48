"""The interface of a panoptic system that the training loop and the experiments use."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, Protocol

import numpy as np

from adaptis.errors import AdaptisError
from adaptis.runtime import mx
from adaptis.types import PanopticResult, Sample, Taxonomy
from panoptic_baselines.arguments import check_choice
from panoptic_baselines.optimizer import TorchSGD  # noqa: F401  (registers 'torchsgd')
from panoptic_baselines.predictor import Predictor


class System(Protocol):
    """A network, its losses and its predictions, such as ``adaptis.system.AdaptISSystem``."""

    net: Any

    def forward(self, batch: dict[str, Any]) -> Any:
        """Run the layers that synchronise between devices on a batch, without reading any result.

        The training step calls this for all devices before it calls ``losses`` for any of them.
        """

    def losses(self, batch: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
        """Return one scalar per loss, already weighted; training minimises their sum.

        Call this inside ``autograd.record``.  ``batch`` holds ``image`` (B, 3, H, W), RGB 0..255,
        and the arrays that the system's own loader adds.  ``outputs`` is what ``forward`` returned
        for the batch; it is computed if you do not pass it.
        """

    def metrics(self) -> dict[str, float]:
        """Return numbers worth logging beside the losses."""

    def parameters(self) -> Any:
        """Return the parameters that are trained, as a ``ParameterDict``."""

    def state(self) -> dict[str, Any]:
        """Return, as plain data, the state that is in neither the parameters nor the optimizer."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""

    def predict(self, image: np.ndarray) -> PanopticResult:
        """Return the panoptic segmentation of an RGB ``uint8`` (H, W, 3) image, at its size."""


class DetectorSystem(System, Protocol):
    """A system that does not learn from points, with what else the training loop needs.

    ``host_keys`` : arrays of a batch that are read outside the graph; they may remain NumPy arrays
    """

    host_keys: tuple[str, ...]

    def targets(self) -> Callable[[Sequence[Sample], Sequence[Any]], dict[str, np.ndarray]]:
        """Return a callable that turns augmented samples and their random generators into a batch.

        It is picklable and does not need MXNet, so that data workers can call it.  All arrays of a
        batch have one row per image.
        """

    def begin_step(self, step: int) -> None:
        """Set the number of the step that the next calls of ``losses`` belong to."""


class BaseSystem:
    """The base class of this package's systems; subclasses add ``targets`` and ``losses``.

    In ``losses(batch, outputs)``, ``outputs`` is what ``forward`` has returned for the batch; it is
    computed if you do not pass it.

    Parameters
    ----------
    net : an initialised network
    taxonomy : the classes of the network
    blocks : the losses, which are hybridized together with the network
    frozen_stages : number of backbone stages that are frozen: 2 = stem and res2
    hybridize : whether to train with cached graphs
    """

    host_keys: tuple[str, ...] = ()
    predictor: Any = Predictor
    bias_lr_mult, bias_wd_mult, norm_wd_mult = 1.0, 1.0, 0.0
    """Multipliers of the learning rate of biases, of their weight decay, and of the weight decay of
    norms.  The shift of a norm counts as a bias and as part of a norm."""

    def __init__(self, net: Any, taxonomy: Taxonomy, blocks: Iterable[Any], frozen_stages: int,
                 hybridize: bool):
        check_choice('hybridize', hybridize, (True, False))
        self.net, self.taxonomy = net, taxonomy
        for backbone in net.backbones:
            backbone.freeze(frozen_stages)
        for block in (net, *blocks):
            block.hybridize(hybridize)

    def begin_step(self, step: int) -> None:
        """Set the number of the step that the next call of ``losses`` belongs to."""

    def forward(self, batch: dict[str, Any]) -> Any:
        """Run the network on the images of a batch, without reading any result."""
        return self.net(fill_padding(batch['image'], batch['sizes'], self.net.mean))

    def metrics(self) -> dict[str, float]:
        """Return numbers of the last step that are worth logging."""
        return {}

    def parameters(self) -> Any:
        """Return the parameters that are trained; their weight decay follows the class attributes.

        Biases of the backbone keep the learning rate that ``backbone_lr_mult`` gives them.
        """
        everything = self.net.collect_params()
        chosen = mx.gluon.ParameterDict(everything.prefix)
        chosen.update({k: p for k, p in everything.items() if p.grad_req != 'null'})
        decays = {'bias': self.bias_wd_mult, 'gamma': self.norm_wd_mult,
                  'beta': self.bias_wd_mult * self.norm_wd_mult}
        for name, parameter in self.net._collect_params_with_prefix().items():
            kind = name.rsplit('.', 1)[-1]
            if kind in decays:
                parameter.wd_mult = decays[kind]
            if kind in ('bias', 'beta') and 'encoder.backbone.' not in name:
                parameter.lr_mult = self.bias_lr_mult
        return chosen

    def state(self) -> dict[str, Any]:
        """Return an empty state: the next step does not depend on earlier ones."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""

    def predict(self, image: np.ndarray, settings: Any = 'coco') -> PanopticResult:
        """Return the panoptic segmentation of an RGB ``uint8`` (H, W, 3) image, at its size.

        See ``Predictor`` for ``settings``.  For many images, create a predictor once instead.
        """
        return self.predictor(self.net, self.taxonomy, settings).predict(image)


def fill_padding(image: Any, sizes: Any, colour: Sequence[float]) -> Any:
    """Fill the pixels of images (B, 3, H, W) beyond ``sizes`` (B, 2) with the given colour."""
    rows, columns = (mx.nd.broadcast_lesser(
        mx.nd.contrib.arange_like(image, axis=axis).reshape((1, -1)),
        mx.nd.slice_axis(sizes, axis=1, begin=axis - 2, end=axis - 1)) for axis in (2, 3))
    inside = mx.nd.batch_dot(rows.expand_dims(2), columns.expand_dims(1)).expand_dims(1)
    colour = mx.nd.array(colour, ctx=image.context).reshape((1, 3, 1, 1))
    return mx.nd.where(mx.nd.broadcast_like(inside, image), image,
                       mx.nd.broadcast_like(colour, image))


def divergence_error() -> AdaptisError:
    """Return the error for a network whose outputs became infinite during training."""
    return AdaptisError('The outputs of the network became infinite: lower the learning rate. '
                        'The checkpoints written so far are intact.')
