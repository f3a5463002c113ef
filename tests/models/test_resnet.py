import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.models import resnet, wide_resnet
from ntkens.models.convolution import convolve
from ntkens.models.normalisation import standardise

IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 4, 3)))


def normed(params, name, z, normalisation):
    scale, bias = (params[name][part][None, None, None] for part in ("scale", "bias"))
    return scale * standardise(z, normalisation) + bias


def residual_by_hand(params, images, projects, normalisation):
    """Two stages of 4 and 6 channels, two blocks each, as the head of `resnet` has it."""
    z = convolve(images, params["stem"]["kernel"])
    z = jax.nn.relu(normed(params, "stem_norm", z, normalisation))
    for stage, block in ((0, 0), (0, 1), (1, 0), (1, 1)):
        own = params[f"stage_{stage}_block_{block}"]
        stride = 2 if (stage, block) == (1, 0) else 1
        f = convolve(z, own["conv_0"]["kernel"], stride)
        f = convolve(jax.nn.relu(normed(own, "norm_0", f, normalisation)), own["conv_1"]["kernel"])
        if stride == 2 and projects:
            z = normed(own, "shortcut_norm", z[:, ::2, ::2] @ own["shortcut"]["kernel"][0, 0],
                       normalisation)  # fmt: skip
        elif stride == 2:
            z = jnp.concatenate([z[:, ::2, ::2], jnp.zeros((2, 3, 2, 2))], axis=-1)
        z = jax.nn.relu(normed(own, "norm_1", f, normalisation) + z)
    return z.mean((1, 2)) @ params["readout"]["kernel"] + params["readout"]["bias"]


def wide_by_hand(params, images, normalisation):
    """WRN-10-1, as the head of `wide_resnet` has it: the first stage keeps its 16 channels."""
    z = convolve(images, params["stem"]["kernel"])
    for stage in range(3):
        own, stride = params[f"stage_{stage}_block_0"], 2 if stage else 1
        a = jax.nn.relu(normed(own, "norm_0", z, normalisation))
        f = convolve(a, own["conv_0"]["kernel"], stride)
        f = convolve(jax.nn.relu(normed(own, "norm_1", f, normalisation)), own["conv_1"]["kernel"])
        z = f + (a[:, ::2, ::2] @ own["shortcut"]["kernel"][0, 0] if stage else z)
    z = jax.nn.relu(normed(params, "norm", z, normalisation))
    return z.mean((1, 2)) @ params["readout"]["kernel"] + params["readout"]["bias"]


def moved(params):
    """Scales and biases that are not 1 and 0."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.normal(size=leaf.shape), params)


@pytest.mark.slow
@pytest.mark.parametrize(("projects", "normalisation"), [(True, "group"), (False, "batch")])
def test_a_residual_network_is_its_blocks(projects, normalisation, key):
    model = resnet.resnet([4, 6], 2, 3, projects=projects, normalisation=normalisation)
    params = moved(jax.jit(model.init)(key, IMAGES))
    expected = jax.jit(residual_by_hand, static_argnums=(2, 3))(
        params, IMAGES, projects, normalisation
    )
    np.testing.assert_allclose(jax.jit(model.apply)(params, IMAGES), expected, rtol=1e-9)


@pytest.mark.slow
def test_a_wide_residual_network_is_its_blocks(key):
    model = wide_resnet.wide_resnet(10, 1, 3)
    params = moved(jax.jit(model.init)(key, IMAGES))
    expected = jax.jit(wide_by_hand, static_argnums=2)(params, IMAGES, "group")
    np.testing.assert_allclose(jax.jit(model.apply)(params, IMAGES), expected, rtol=1e-9)


@pytest.mark.slow
def test_a_step_down_the_gradient_of_resnet20_lowers_its_loss(key):
    model = resnet.resnet20(10)
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    params = jax.jit(model.init)(key, images)

    @jax.jit
    def value_and_slope(params):
        def loss(params):
            return -jax.nn.log_softmax(model.apply(params, images))[:, 3].mean()

        return jax.value_and_grad(loss)(params)

    loss, slope = value_and_slope(params)
    square = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope))
    rate = 0.01 * loss / square  # to first order a step takes a hundredth of the loss
    after, _ = value_and_slope(jax.tree.map(lambda leaf, g: leaf - rate * g, params, slope))
    np.testing.assert_allclose((loss - after) / loss, 0.01, rtol=0.2)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: resnet.resnet18(10, width=0), "width: got"),
        (lambda: resnet.resnet20(10, width=2.5), "width: got"),
        (lambda: resnet.resnet20(0), "outputs: got"),
        (lambda: resnet.resnet20(10, normalisation="none"), "normalisation: got 'none'; it is one"),
        (lambda: resnet.resnet([], 1, 10, projects=True), "widths: got none"),
        (lambda: resnet.resnet([8], 0, 10, projects=True), "blocks: got"),
        (lambda: resnet.resnet([8, 4], 1, 10, projects=False), "widths: got .* projects=True"),
        (lambda: wide_resnet.wide_resnet(20, 1, 10), "depth: got 20; it is 6 n"),
        (lambda: wide_resnet.wide_resnet(4, 1, 10), "depth: got 4; it is 6 n"),
        (lambda: wide_resnet.wide_resnet(10.0, 1, 10), "depth: got"),
        (lambda: wide_resnet.wide_resnet(10, 0, 10), "widen: got"),
        (lambda: wide_resnet.wide_resnet(10, 1, 0), "outputs: got"),
        (lambda: wide_resnet.wide_resnet(10, 1, 9, normalisation="none"), "normalisation: got"),
    ],
)
def test_bad_arguments_are_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()
