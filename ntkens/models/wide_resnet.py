"""Wide residual networks, for images of 32 x 32. Zagoruyko & Komodakis, arXiv:1605.07146.

A block normalises first, and what it adds passes no activation (arXiv:1603.05027):

    a = relu(norm(z)),   z' = W_2 * relu(norm(W_1 * a)) + z

where the number of channels changes, by a 1 x 1 convolution of a in place of z.
"""

from typing import get_args

import jax
from flax import linen

from ntkens.models import Model
from ntkens.models.checks import check_option, check_sizes
from ntkens.models.convolution import Convolution
from ntkens.models.images import Readout, image_model
from ntkens.models.normalisation import Normalise
from ntkens.models.resnet import Normalisation


def wide_resnet(
    depth: int, widen: int, outputs: int, *, normalisation: Normalisation = "group"
) -> Model:
    """WRN-depth-widen: a stem of 16 channels, three stages of 16, 32 and 64 times `widen`.

    A stage has (depth - 4) / 6 blocks, the later two start at stride 2; then norm, ReLU, the mean
    over positions and the readout. `wide_resnet(28, 10, 10)` is WRN-28-10: 36.5 M parameters and
    5.2 G multiply-accumulates.

    It departs from the paper in its default, group norm; "batch" has the current batch's statistics
    where the published tables have running averages: see `normalisation`. There is no dropout.
    Weights are drawn N(0, 2 / fan in). The doors of `init` and `apply`, and their errors, are those
    of `images.image_model`; images of other sizes pass.

    Args:
        depth: layers, 6 n + 4: 10, 16, 22, 28, 34, 40.
        widen: the factor k of the channels.
        outputs: how many.
        normalisation: "group", or "batch" (of the current batch); see `normalisation`.

    Raises:
        ValueError: a depth that is not 6 n + 4, sizes out of range, or an unknown normalisation.
    """
    check_sizes("depth", depth)
    check_sizes("widen", widen)
    check_sizes("outputs", outputs)
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth: got {depth}; it is 6 n + 4, for n blocks a stage: 10, 16, 22, 28")
    check_option("normalisation", normalisation, get_args(Normalisation))
    return image_model(_WideResNet((depth - 4) // 6, widen, outputs, normalisation))


class _WideResNet(linen.Module):
    blocks: int  # of a stage
    widen: int
    outputs: int
    normalisation: Normalisation

    @linen.compact
    def __call__(self, images):
        z = Convolution(16, name="stem")(images)
        for stage, width in enumerate((16, 32, 64)):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                name = f"stage_{stage}_block_{block}"
                z = _Block(width * self.widen, stride, self.normalisation, name=name)(z)
        z = jax.nn.relu(Normalise(self.normalisation, name="norm")(z))
        return Readout(self.outputs, name="readout")(z)


class _Block(linen.Module):
    width: int
    stride: int
    normalisation: Normalisation

    @linen.compact
    def __call__(self, z):
        activated = jax.nn.relu(Normalise(self.normalisation, name="norm_0")(z))
        residual = Convolution(self.width, stride=self.stride, name="conv_0")(activated)
        residual = jax.nn.relu(Normalise(self.normalisation, name="norm_1")(residual))
        residual = Convolution(self.width, name="conv_1")(residual)
        if z.shape[-1] == self.width:
            return residual + z
        shortcut = Convolution(self.width, size=1, stride=self.stride, name="shortcut")
        return residual + shortcut(activated)
