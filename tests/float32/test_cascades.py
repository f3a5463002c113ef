"""Scores that a float32 softmax would tie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.ensembles import cascades, confidence

GAPS = np.array([10.0, 20, 30, 40, 60])
LOGITS = jnp.asarray(np.stack([GAPS, 0 * GAPS, 0 * GAPS - 1], axis=1), jnp.float32)


def test_a_saturated_softmax_keeps_its_order():
    assert len(np.unique(confidence.max_softmax(LOGITS))) < len(GAPS)  # the ties
    others = np.exp(-GAPS) + np.exp(-GAPS - 1)
    found = confidence.max_softmax_less_one(LOGITS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, -others / (1 + others), rtol=1e-6)
    entropy = np.log1p(others) + (GAPS * np.exp(-GAPS) + (GAPS + 1) * np.exp(-GAPS - 1)) / (
        1 + others
    )
    np.testing.assert_allclose(confidence.negative_entropy(LOGITS), -entropy, rtol=1e-6)


@pytest.mark.parametrize("score", [confidence.max_softmax_less_one, confidence.negative_entropy])
@pytest.mark.parametrize("of_mean", [False, True])
def test_a_cascade_of_saturated_members_is_that_of_float64(score, of_mean):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 300, 4)) * 8
    with jax.enable_x64(True):
        exact = cascades.stages(jnp.asarray(np.float32(logits)), score, of_mean=of_mean)
        threshold = cascades.threshold_at_coverage(exact.scores[0], 0.5)
        exact_exits = cascades.run(exact, [cascades.around(exact.scores[0], threshold, 0.1)]).exits
    stages = cascades.stages(jnp.asarray(logits, jnp.float32), score, of_mean=of_mean)
    threshold = cascades.threshold_at_coverage(stages.scores[0], 0.5)
    exits = cascades.run(stages, [cascades.around(stages.scores[0], threshold, 0.1)]).exits
    np.testing.assert_array_equal(exits, exact_exits)
    np.testing.assert_allclose(stages.scores, exact.scores, rtol=1e-4)
