"""A small convolutional network, for images of 8 x 8 to 32 x 32."""

from collections.abc import Sequence
from typing import get_args

import jax
from flax import linen

from ntkens.models import Model
from ntkens.models.checks import check_option, check_sizes
from ntkens.models.convolution import Convolution
from ntkens.models.images import Readout, image_model
from ntkens.models.normalisation import Normalisation, Normalise


def conv_net(
    widths: Sequence[int], outputs: int, *, normalisation: Normalisation = "group"
) -> Model:
    """3 x 3 convolutions with ReLUs, halving the image from the second on; mean pool; readout.

        z_1 = relu(norm(W_1 * x)),  z_l = relu(norm(W_l * z_{l-1})) at stride 2,
        logits = V mean(z_L) + b

    Two layers suit images of 8 x 8, three of 28 x 28 or 32 x 32: `conv_net([32, 64, 128], 10)`. A
    stride costs a quarter of a convolution that a pool follows, and trains as well at this size.

    The doors of `init` and `apply`, and their errors, are those of `images.image_model`. Weights
    are drawn N(0, 2 / fan in). Time on a CPU, alone and in ensembles: see `convolution`.

    Args:
        widths: channels of the layers, at least one.
        outputs: how many.
        normalisation: "group", "batch" (of the current batch) or "none"; see `normalisation`.

    Raises:
        ValueError: no widths, sizes out of range, or an unknown normalisation.
    """
    if not len(widths):
        raise ValueError("widths: got none; a convolutional network has a layer or more")
    check_sizes("widths", *widths)
    check_sizes("outputs", outputs)
    check_option("normalisation", normalisation, get_args(Normalisation))
    return image_model(_ConvNet(tuple(widths), outputs, normalisation))


class _ConvNet(linen.Module):
    widths: tuple[int, ...]
    outputs: int
    normalisation: Normalisation

    @linen.compact
    def __call__(self, images):
        z = images
        for layer, width in enumerate(self.widths):
            name, stride = (f"conv_{layer}", 2) if layer else ("stem", 1)
            z = Convolution(width, stride=stride, name=name)(z)
            z = jax.nn.relu(Normalise(self.normalisation, name=f"{name}_norm")(z))
        return Readout(self.outputs, name="readout")(z)
