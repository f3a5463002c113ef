"""The linear factor model: maximum likelihood in closed form, and exact risks of linear learners.

    x = mean + B z + mu,    z ~ N(0, I_r),  mu ~ N(0, noise I_d),    y = weights^T z + nu

(arXiv:2303.01566, Sec. 4; with an estimated noise it is the probabilistic PCA of Tipping and Bishop
1999). Unlabelled inputs give B up to a rotation of z; labels then have r numbers to teach, not d:

    model = factor_model.fit(unlabelled, factors)
    weights = factor_model.regress(factor_model.features(model, inputs), targets)

All is jointly Gaussian, and so no risk here needs a test set. With C = B B^T + noise I the best
prediction from x is w^T (x - mean), w = C^-1 B weights = `encoder(model) @ weights`; any other
linear prediction has an excess risk that is a quadratic form of C. Everything runs under jit and
vmap.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, ArrayLike, Float

from ntkens.checks import check_finite, checked_points, is_concrete
from ntkens.predictors.checks import check_real, check_shape


class FactorModel(NamedTuple):
    """A Gaussian of covariance B B^T + noise I.

    Attributes:
        mean: of the inputs.
        loadings: B, known up to a rotation of its columns.
        noise: the variance of each input that the factors do not explain.
    """

    mean: Float[Array, " d"]
    loadings: Float[Array, "d r"]
    noise: Float[Array, ""]


def fit(
    inputs: Float[Array, "m d"],
    factors: int,
    *,
    noise: Float[ArrayLike, ""] | None = 1.0,
    mean: Float[ArrayLike, " d"] | float | None = 0.0,
) -> FactorModel:
    """The model of largest likelihood, from one eigendecomposition.

        B = U_r (Lambda_r - noise)_+^1/2,    S = (X - mean)^T (X - mean) / m = U Lambda U^T,

    with the r largest eigenvalues (Tipping and Bishop 1999, App. A; for a known noise a direction
    with less variance than the noise gets no factor, and its column of B is zero). The estimated
    noise is the mean of the other eigenvalues, and the estimated mean is the sample's.

    Args:
        inputs: without labels.
        factors: r, at least 1 and below d.
        noise: the known variance; None: estimated.
        mean: the known mean, of all inputs or of each; None: estimated.

    Raises:
        ValueError: r out of range; fewer inputs than factors; NaN; a noise that is not above 0, or
            is estimated as 0, where the likelihood has no maximum (under jit it is then 0).
        TypeError: inputs that are not floating point.
    """
    inputs, _ = checked_points(("inputs", inputs), ("inputs", inputs))
    count, width = inputs.shape
    if not isinstance(factors, int | np.integer) or not 1 <= factors < width:
        raise ValueError(f"factors: got {factors}; want a whole number, 1 to {width - 1}")
    least = factors + (noise is None) + (noise is None and mean is None)
    if count < least:
        raise ValueError(
            f"inputs: got {count}; {factors} factors{' and a noise' * (noise is None)} want at "
            f"least {least}, or take fewer factors"
        )
    if mean is None:
        centre = jnp.mean(inputs, axis=0)
    else:
        check_finite("mean", mean)
        if jnp.shape(mean) not in ((), (width,)):
            raise ValueError(f"mean: got shape {jnp.shape(mean)}, wants ({width},), or one number")
        centre = jnp.broadcast_to(jnp.asarray(mean, inputs.dtype), (width,))
    centred = inputs - centre[None]
    values, vectors = jnp.linalg.eigh(jnp.matmul(centred.T, centred, precision="highest") / count)
    variance = jnp.mean(values[:-factors]) if noise is None else jnp.asarray(noise, inputs.dtype)
    if is_concrete(variance, values):
        rounding = width * float(jnp.finfo(inputs.dtype).eps) * float(values[-1])
        if noise is None and float(variance) <= rounding:
            raise ValueError(
                f"noise: estimated as 0, for the inputs lie in {factors} dimensions; take fewer "
                "factors, or give the noise"
            )
        _check_variance("noise", variance)
    excess = jnp.maximum(values[-factors:][::-1] - variance, 0)
    return FactorModel(centre, vectors[:, ::-1][:, :factors] * jnp.sqrt(excess)[None], variance)


def log_likelihood(model: FactorModel, inputs: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The log density of each input, in nats: ln N(x; mean, B B^T + noise I).

    By r x r matrices: with z the features of x,

        x^T C^-1 x = |x - B z|^2 / noise + |z|^2,    ln|C| = (d - r) ln noise + ln|noise I + B^T B|.

    Raises:
        ValueError, TypeError: inputs of another width, with NaN, or not floating point.
    """
    model, inputs = _checked(model, inputs)
    width, factors = model.loadings.shape
    centred, means = inputs - model.mean[None], features(model, inputs)
    rest = centred - jnp.matmul(means, model.loadings.T, precision="highest")
    square = jnp.sum(rest**2, axis=1) / model.noise + jnp.sum(means**2, axis=1)
    determinant = 2 * jnp.sum(jnp.log(jnp.diag(cho_factor(_precision(model))[0])))
    volume = (width - factors) * jnp.log(model.noise) + determinant
    return -0.5 * (width * np.log(2 * np.pi) + volume + square)


def encoder(model: FactorModel) -> Float[Array, "d r"]:
    """The matrix E of the features: E[z | x] = E^T (x - mean), E = B (noise I + B^T B)^-1.

    Raises:
        ValueError: a noise that is not above 0.
    """
    _check_variance("model.noise", model.noise)
    return cho_solve(cho_factor(_precision(model)), model.loadings.T).T


def features(model: FactorModel, inputs: Float[Array, "n d"]) -> Float[Array, "n r"]:
    """The posterior mean of the factors of each input, E[z | x]; it is linear in x.

    Raises:
        ValueError, TypeError: inputs of another width, with NaN, or not floating point.
    """
    model, inputs = _checked(model, inputs)
    return jnp.matmul(inputs - model.mean[None], encoder(model), precision="highest")


def regress(
    features: Float[Array, "n r"], targets: Float[Array, "n *outputs"]
) -> Float[Array, "r *outputs"]:
    """Least squares without an intercept, by singular values: weights of targets on features.

    Where they are not determined, with fewer labels than features or with a factor that no input
    has, these are the weights of the smallest norm (singular values below eps max(n, r) of the
    largest count as 0).

    Raises:
        ValueError: targets are not one for each row of features; NaN.
        TypeError: features that are not floating point, or complex targets.
    """
    features, _ = checked_points(("features", features), ("features", features))
    check_real("targets", targets)
    check_finite("targets", targets)
    if not jnp.ndim(targets) or len(targets) != len(features):
        raise ValueError(
            f"targets: got shape {jnp.shape(targets)}, wants ({len(features)}, ...): one row for "
            "each row of features"
        )
    targets = jnp.asarray(targets, features.dtype)
    with_columns = targets.reshape(len(targets), -1)
    weights = jnp.linalg.lstsq(features, with_columns)[0]
    return weights.reshape(features.shape[1], *targets.shape[1:])


def irreducible_risk(
    model: FactorModel, weights: Float[Array, " r"], label_noise: Float[ArrayLike, ""]
) -> Float[Array, ""]:
    """The mean squared error of the best prediction from x, label_noise + Var(weights^T z | x).

    The second term is noise weights^T (noise I + B^T B)^-1 weights. It has no upper bound in the
    noise of the inputs but |weights|^2: what they do not reveal cannot be learnt.

    Args:
        model: of the inputs.
        weights: of y = weights^T z + nu.
        label_noise: the variance of nu.

    Raises:
        ValueError: weights are not one for each factor.
    """
    check_shape("weights", weights, model.loadings.shape[1:])
    weights = jnp.asarray(weights, model.loadings.dtype)
    hidden = cho_solve(cho_factor(_precision(model)), weights)
    return jnp.asarray(label_noise) + model.noise * jnp.sum(weights * hidden)


def excess_risk(
    model: FactorModel, best: Float[Array, " d"], predictor: Float[Array, " d"]
) -> Float[Array, ""]:
    """How much a linear predictor loses on the best one: (v - w)^T C (v - w), in y's units squared.

    Args:
        model: of the inputs.
        best: w, the coefficients of E[y | x] in x - mean: `encoder(model) @ weights`.
        predictor: v, coefficients in x - mean too.

    Raises:
        ValueError: coefficients that are not one for each input.
    """
    for name, vector in (("best", best), ("predictor", predictor)):
        check_shape(name, vector, model.loadings.shape[:1])
    return jnp.sum(jnp.matmul(_root(model), predictor - best, precision="highest") ** 2)


def representation_excess(
    model: FactorModel, best: Float[Array, " d"], representation: Float[Array, "d k"]
) -> Float[Array, ""]:
    """What is lost with any number of labels: the least excess risk of `representation @ v`.

    Invariant to any invertible map of the k features.

    Args:
        model: of the inputs.
        best: the coefficients of E[y | x] in x - mean.
        representation: of linear features, `representation^T (x - mean)`; columns may be zero.

    Raises:
        ValueError: shapes that do not match.
    """
    width = len(model.loadings)
    check_shape("best", best, (width,))
    if jnp.ndim(representation) != 2:
        raise ValueError(f"representation: got shape {jnp.shape(representation)}, wants [d k]")
    check_shape("representation", representation, (width, jnp.shape(representation)[1]))
    root = _root(model)
    columns = jnp.matmul(root, representation, precision="highest")
    nearest = jnp.matmul(representation, regress(columns, root @ best), precision="highest")
    return excess_risk(model, best, nearest)


def least_squares_excess(
    residual: Float[ArrayLike, "*axes"],
    features: int,
    labels: Float[ArrayLike, "*axes"],
) -> Float[Array, "*axes"]:
    """The expected excess risk of least squares on Gaussian features: residual k / (n - k - 1).

    Exact where the features are Gaussian of mean zero and the target is linear in them plus an
    independent error of variance `residual`: of all d inputs (supervised), of the r true features
    (the oracle), and of learnt features with the representation's excess added to the residual.

    Infinite at n = k - 1, k, k + 1, where the inverse of a Wishart matrix has no mean. NaN below
    that: the answer of smallest norm has a risk that depends on the target itself.

    Args:
        residual: the risk of the best prediction from these features.
        features: k.
        labels: n.
    """
    residual, labels = jnp.asarray(residual), jnp.asarray(labels)
    room = labels - features - 1
    finite = residual * features / jnp.where(room > 0, room, 1)
    return jnp.where(room > 0, finite, jnp.where(labels < features - 1, jnp.nan, jnp.inf))


def asymptotic_excess(
    model: FactorModel, weights: Float[Array, " r"], samples: Float[ArrayLike, "*axes"]
) -> Float[Array, "*axes"]:
    """The representation's expected excess after `fit` to many samples m, to order 1 / m.

        (d - r) / m  sum_j  noise weights_j^2 / (b_j^2 (b_j^2 + noise)),

    with b_j the singular values of B, and the weights in its right singular basis: the sample's
    eigenvectors tilt out of the span of B by Gaussians of variance noise (b_j^2 + noise) /
    (m b_j^4) in each of d - r directions (Anderson 1963). Infinite for a factor without loadings
    that the target needs, where the model is not informative.

    Raises:
        ValueError: weights are not one for each factor.
    """
    width, factors = model.loadings.shape
    check_shape("weights", weights, (factors,))
    _, singular, rotation = jnp.linalg.svd(model.loadings, full_matrices=False)
    turned = jnp.matmul(rotation, weights, precision="highest") ** 2
    square = singular**2
    tilts = jnp.where(turned > 0, model.noise * turned / (square * (square + model.noise)), 0)
    return (width - factors) * jnp.sum(tilts) / jnp.asarray(samples)


def _precision(model):
    """noise I + B^T B: the posterior precision of the factors, times the noise."""
    gram = jnp.matmul(model.loadings.T, model.loadings, precision="highest")
    return gram + model.noise * jnp.eye(len(gram), dtype=gram.dtype)


def _root(model):
    """A matrix R [r + d, d] with R^T R = C: no eigenvalue is ever subtracted from another."""
    identity = jnp.eye(len(model.loadings), dtype=model.loadings.dtype)
    return jnp.concatenate([model.loadings.T, jnp.sqrt(model.noise) * identity])


def _checked(model, inputs):
    inputs, _ = checked_points(("inputs", inputs), ("model.loadings", model.loadings.T))
    return FactorModel(*(jnp.asarray(each, inputs.dtype) for each in model)), inputs


def _check_variance(name, variance):
    check_shape(name, variance, ())
    if is_concrete(variance) and not 0 < float(variance) < np.inf:
        raise ValueError(f"{name}: got {variance}; a variance is finite and above 0")
