"""Scores of logits against high precision, where a softmax saturates too."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from ntkens.ensembles import aggregate, confidence

LOGITS = np.array(
    [[0.0, 0, 0], [1, 2, -1], [30, -3, 2], [-70, 5, 5], [60, 0, 1], [0, -200, -300], [1e3, 990, 0]]
)


@mpmath.workdps(400)
def exact(name, row):
    exponentials = [mpmath.exp(mpmath.mpf(float(z))) for z in row]
    p = [e / sum(exponentials) for e in exponentials]
    return float(
        {
            "max_softmax": lambda: max(p),
            "max_softmax_less_one": lambda: max(p) - 1,
            "negative_entropy": lambda: sum(x * mpmath.log(x) for x in p),
            "max_logit": lambda: max(row),
            "negative_energy": lambda: mpmath.log(sum(exponentials)),
        }[name]()
    )


NAMES = ("max_softmax", "max_softmax_less_one", "negative_entropy", "max_logit", "negative_energy")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_to_all_their_digits(name, dtype):
    found = getattr(confidence, name)(jnp.asarray(LOGITS, dtype))
    assert found.dtype == jnp.float64  # whatever the logits are, for float64 is on
    np.testing.assert_allclose(
        found,
        [exact(name, row) for row in LOGITS],
        rtol=1e-13,
        atol=1e-15 if name == "negative_energy" else 0,
    )  # of logits of 0


def test_the_mean_softmax_has_logits():
    members = 3 * np.random.default_rng(0).normal(size=(3, 50, 4))
    found = aggregate.log_mean(members)
    np.testing.assert_allclose(
        jnp.exp(found), jnp.mean(jax.nn.softmax(members), axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(confidence.negative_energy(found), 0, atol=1e-14)


def test_one_class_is_certain():
    logits = jnp.array([[3.0], [-2.0]])
    np.testing.assert_array_equal(confidence.max_softmax(logits), [1, 1])
    np.testing.assert_array_equal(confidence.max_softmax_less_one(logits), [0, 0])
    np.testing.assert_array_equal(confidence.negative_entropy(logits), [0, 0])


@pytest.mark.parametrize("name", NAMES)
def test_bad_logits_are_refused(name):
    score = getattr(confidence, name)
    with pytest.raises(TypeError, match="logits: got dtype int"):
        score(np.array([1, 2]))
    with pytest.raises(ValueError, match=r"logits: got shape \(\)"):
        score(np.float64(1))
    with pytest.raises(ValueError, match="logits: holds NaN"):
        score(np.array([1.0, np.nan]))
