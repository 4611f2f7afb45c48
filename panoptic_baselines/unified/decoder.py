"""The semantic branch of UPSNet (Xiong et al. 2019), with group norms (sections 3.2, A.1)."""
from __future__ import annotations

from adaptis.runtime import mx
from panoptic_baselines.layers.deformable import DeformableConvNorm, samples_in_numpy
from panoptic_baselines.layers.norm import ConvNorm
from panoptic_baselines.layers.semantic import Upsample

nn = mx.gluon.nn
HybridBlock = mx.gluon.HybridBlock


class Decoder(HybridBlock):
    """p2, ..., p5 (B, C, h, w) -> (B, out_channels, h, w) at the stride of p2.

    All levels share two 3x3 convolutions ``conv1`` and ``conv2``, each with group norm and ReLU.
    Then the levels are upsampled bilinearly and concatenated, and a 1x1 convolution ``predictor``
    follows.

    Parameters
    ----------
    in_channels, out_channels : C, and the number of channels of the output
    channels : number of channels of the two convolutions
    deformable : whether these two are deformable (without modulation), as in UPSNet
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int = 128,
                 deformable: bool = True, num_groups: int = 32):
        super().__init__()
        self.deformable = deformable
        with self.name_scope():
            for name, source in (('conv1', in_channels), ('conv2', channels)):
                norm = {'num_groups': num_groups}
                setattr(self, name, DeformableConvNorm(channels, source, norm_kwargs=norm,
                                                       modulated=False)
                        if deformable else ConvNorm(channels, source, norm_kwargs=norm))
            for level in (3, 4, 5):
                setattr(self, f'upsample{level}', Upsample(2 ** (level - 2), channels))
            self.predictor = nn.Conv2D(out_channels, 1, in_channels=4 * channels,
                                       weight_initializer=mx.init.Normal(0.01))

    def forward(self, *features):
        """Run the decoder, as one graph unless its convolutions are computed outside of graphs."""
        if self.deformable and samples_in_numpy(features[0]):
            return self.hybrid_forward(mx.nd, *features)
        return super().forward(*features)

    def hybrid_forward(self, F, *features):
        maps = [self.conv2(self.conv1(x)) for x in features]
        enlarged = [up(x) for up, x in zip((self.upsample3, self.upsample4, self.upsample5),
                                           maps[1:])]
        return self.predictor(F.concat(maps[0], *enlarged, dim=1))
