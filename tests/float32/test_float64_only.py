"""Functions whose float32 answer would be wrong say so, with the line that mends it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkens.ensembles import complexity
from ntkens.kernels import criticality, phase_diagram
from ntkens.predictors import permutations


@pytest.mark.parametrize(
    "call",
    [
        lambda: permutations.moments(10, 2, "ntk"),
        lambda: complexity.accuracy(np.ones(1), 1.0, np.ones(1), 1),
        lambda: complexity.members_needed(np.ones(1), 1.0, np.ones(1), 0.9),
        lambda: complexity.accuracy_bounds(np.ones(1), 1.0, np.ones(1), 1, np.zeros(1)),
        lambda: complexity.members_needed_bounds(np.ones(1), 1.0, np.ones(1), 0.9, np.zeros(1)),
        lambda: criticality.critical_point(criticality.nonlinearity(jax.nn.relu)),
        lambda: phase_diagram.phase_diagram(criticality.nonlinearity(jnp.tanh), [0.1], [1.0]),
    ],
)
def test_float64_is_asked_for(call):
    with pytest.raises(TypeError, match=r'jax\.config\.update\("jax_enable_x64", True\)'):
        call()
