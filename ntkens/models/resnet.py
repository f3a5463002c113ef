"""Residual networks for images of 32 x 32: ResNet-18 and ResNet-20. He et al., arXiv:1512.03385.

A block adds to its input what two 3 x 3 convolutions make of it:

    z' = relu(norm(W_2 * relu(norm(W_1 * z))) + shortcut(z))

Stages follow one another, each of twice the channels of the last and half its height and width; a
stage's first convolution strides and its first shortcut changes shape. Then the mean over positions
and the readout. Weights are drawn N(0, 2 / fan in), as in He et al., arXiv:1502.01852.

The published tables are of batch normalisation with running averages; group norm is the default
here and "batch" takes the current batch's statistics instead: see `normalisation`. Without either
the signal's second moment doubles in every block, and "none" is not offered.

The doors of `init` and `apply`, and their errors, are those of `images.image_model`. Images of
other sizes pass; the published costs are of 32 x 32 x 3.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen

from ntkens.models import Model
from ntkens.models.checks import check_option, check_sizes
from ntkens.models.convolution import Convolution
from ntkens.models.images import Readout, image_model
from ntkens.models.normalisation import Normalise

Normalisation = Literal["group", "batch"]


def resnet18(outputs: int, *, width: int = 64, normalisation: Normalisation = "group") -> Model:
    """ResNet-18 as it is used on CIFAR: four stages of two blocks, 64 to 512 channels.

    The stem is one 3 x 3 convolution at stride 1, and no pool follows it: the published network is
    of 224 x 224 images, and strides 4 before its first block. Shortcuts that change shape are
    1 x 1 convolutions (option B). 11.17 M parameters and 0.56 G multiply-accumulates.

    Args:
        outputs: how many.
        width: channels of the first stage.
        normalisation: "group", or "batch" (of the current batch); see `normalisation`.

    Raises:
        ValueError: sizes out of range, or an unknown normalisation.
    """
    check_sizes("width", width)
    widths = [width, 2 * width, 4 * width, 8 * width]
    return resnet(widths, 2, outputs, projects=True, normalisation=normalisation)


def resnet20(outputs: int, *, width: int = 16, normalisation: Normalisation = "group") -> Model:
    """ResNet-20: three stages of three blocks, 16, 32 and 64 channels; section 4.2 of the paper.

    Shortcuts that change shape have no parameters (option A): every second pixel, and zeros for the
    new channels. 0.27 M parameters and 40.6 M multiply-accumulates; tables that say 40.8 M are of
    1 x 1 convolutions instead.

    Args:
        outputs: how many.
        width: channels of the first stage.
        normalisation: "group", or "batch" (of the current batch); see `normalisation`.

    Raises:
        ValueError: sizes out of range, or an unknown normalisation.
    """
    check_sizes("width", width)
    widths = [width, 2 * width, 4 * width]
    return resnet(widths, 3, outputs, projects=False, normalisation=normalisation)


def resnet(
    widths: Sequence[int],
    blocks: int,
    outputs: int,
    *,
    projects: bool,
    normalisation: Normalisation = "group",
) -> Model:
    """A residual network of any stages; `resnet18` and `resnet20` are two of them.

    Args:
        widths: channels of the stages, at least one.
        blocks: of each stage.
        outputs: how many.
        projects: whether shortcuts that change shape are 1 x 1 convolutions (option B) or have no
            parameters (option A), for which channels must not become fewer.
        normalisation: "group", or "batch" (of the current batch); see `normalisation`.

    Raises:
        ValueError: sizes out of range, or an unknown normalisation.
    """
    if not len(widths):
        raise ValueError("widths: got none; a residual network has a stage or more")
    check_sizes("widths", *widths)
    check_sizes("blocks", blocks)
    check_sizes("outputs", outputs)
    check_option("normalisation", normalisation, get_args(Normalisation))
    if not projects and list(widths) != sorted(widths):
        raise ValueError(
            f"widths: got {widths}; shortcuts without parameters only add channels: let the widths "
            "grow, or projects=True"
        )
    return image_model(_ResNet(tuple(widths), blocks, projects, outputs, normalisation))


class _ResNet(linen.Module):
    widths: tuple[int, ...]
    blocks: int  # of a stage
    projects: bool
    outputs: int
    normalisation: Normalisation

    @linen.compact
    def __call__(self, images):
        z = Convolution(self.widths[0], name="stem")(images)
        z = jax.nn.relu(Normalise(self.normalisation, name="stem_norm")(z))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                name = f"stage_{stage}_block_{block}"
                z = _Block(width, stride, self.projects, self.normalisation, name=name)(z)
        return Readout(self.outputs, name="readout")(z)


class _Block(linen.Module):
    width: int
    stride: int
    projects: bool
    normalisation: Normalisation

    @linen.compact
    def __call__(self, z):
        residual = Convolution(self.width, stride=self.stride, name="conv_0")(z)
        residual = jax.nn.relu(Normalise(self.normalisation, name="norm_0")(residual))
        residual = Convolution(self.width, name="conv_1")(residual)
        residual = Normalise(self.normalisation, name="norm_1")(residual)
        return jax.nn.relu(residual + self._shortcut(z))

    def _shortcut(self, z):
        new = self.width - z.shape[-1]
        if new == 0 and self.stride == 1:
            return z
        if self.projects:
            z = Convolution(self.width, size=1, stride=self.stride, name="shortcut")(z)
            return Normalise(self.normalisation, name="shortcut_norm")(z)
        z = z[:, :: self.stride, :: self.stride]
        return jnp.pad(z, ((0, 0), (0, 0), (0, 0), (0, new)))
