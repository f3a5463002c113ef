"""Theory that is called: each piece beside a peer, or what it cannot do without.

    python -m benchmarks.theory                  # a minute; one core, float32
    python -m benchmarks.theory --out results    # and append the numbers to results/

Ratios of seconds, the median over rounds in which all take turns:

- random networks of 8 layers, 64 wide, by their preactivations: over the same networks with weights
  drawn, and over drawing their normal numbers alone;
- kernels of random-feature attention, 512 inputs of 16 keys: over the products of all these keys,
  a matrix of 268 MB that the kernels never hold;
- distances to the 5 nearest of 10,000 points of width 784: over scikit-learn's, by brute force;
- 20 steps of expectation maximisation, 20,000 points of 5 components: over scikit-learn's;
- the exact tail of a generalised chi-squared variable of 400 terms: over its saddle point
  approximation, and over 1000 samples of it.
"""

import statistics
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from benchmarks import _record
from benchmarks.members import pin_to_one_core, rounds
from experiments import _environment
from ntkens.kernels import attention
from ntkens.measures import generalised_chi_squared, nearest
from ntkens.models import preactivations
from ntkens.predictors import gaussian_mixture

NETWORKS, WIDTH, DEPTH = 4000, 64, 8
INPUTS, KEYS, TOKEN = 512, 16, 16
POINTS, PIXELS, NEIGHBOURS = 10_000, 784, 5
EXAMPLES, FEATURES, COMPONENTS, STEPS = 20_000, 30, 5, 20
TERMS, SAMPLES = 400, 1000


def networks() -> dict:
    key = jax.random.key(0)

    def network(key):
        """One network whose weights are drawn, and the variance of each of its layers."""
        z = jax.random.normal(key, (WIDTH,))

        def layer(z, key):
            weights = jax.random.normal(key, (WIDTH, WIDTH)) * (2 / WIDTH) ** 0.5
            signal = jax.nn.relu(z)
            return weights @ signal, 2 * jnp.mean(signal**2)

        return jax.lax.scan(layer, z, jax.random.split(key, DEPTH - 1))[1]

    keys = jax.random.split(key, NETWORKS)
    drawn = jax.jit(lambda keys: jax.lax.map(network, keys, batch_size=16))
    numbers = jax.jit(lambda key: jax.random.normal(key, (NETWORKS * DEPTH * WIDTH,)))
    widths = (WIDTH,) * DEPTH
    return {
        "networks by preactivations": lambda: preactivations.sample(
            key, jax.nn.relu, jnp.float32(1.0), 0.0, 2.0, widths, NETWORKS
        ),
        "their weights drawn": lambda: drawn(keys),
        "their normal numbers": lambda: numbers(key),
    }


def attentions() -> dict:
    x = jax.random.normal(jax.random.key(1), (INPUTS, KEYS + 1, TOKEN))
    x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    tokens = x[:, 1:].reshape(-1, TOKEN)
    product = jax.jit(lambda tokens: jnp.matmul(tokens, tokens.T, precision="highest"))
    unbiased, biased = attention.kernel_fn(), attention.kernel_fn(biased=True)
    return {
        "attention, unbiased": lambda: unbiased(x),
        "attention, biased": lambda: biased(x),
        "products of keys": lambda: product(tokens),
    }


def neighbours() -> dict:
    points = np.random.default_rng(2).normal(size=(POINTS, PIXELS)).astype(np.float32)
    on_device, groups = jnp.asarray(points), np.arange(POINTS)
    peer = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(points)
    return {
        "nearest": lambda: nearest.distances(on_device, groups, NEIGHBOURS),
        "scikit-learn's nearest": lambda: peer.kneighbors(points),
    }


def mixtures() -> dict:
    random = np.random.default_rng(3)
    centres = random.normal(size=(COMPONENTS, FEATURES))
    labels = random.integers(0, COMPONENTS, EXAMPLES)
    points = (centres[labels] + random.normal(size=(EXAMPLES, FEATURES))).astype(np.float32)
    on_device = jnp.asarray(points)
    start = gaussian_mixture.start(jax.random.key(4), on_device, COMPONENTS)
    peer = GaussianMixture(
        COMPONENTS, covariance_type="spherical", tol=0, max_iter=STEPS, reg_covar=0,
        weights_init=np.full(COMPONENTS, 1 / COMPONENTS, np.float32),
        means_init=np.asarray(start.means), precisions_init=np.ones(COMPONENTS, np.float32),
    )  # fmt: skip
    return {
        "mixture": lambda: gaussian_mixture.maximise(start, on_device, steps=STEPS, tolerance=0),
        "scikit-learn's mixture": lambda: peer.fit(points).means_,
    }


def tails() -> dict:
    random = np.random.default_rng(5)
    weights, squares = random.exponential(size=(2, TERMS))
    q = generalised_chi_squared.distribution(weights, 10.0, squares)
    target = 0.5 * generalised_chi_squared.cumulant(q, 1)
    offset = np.sqrt(squares / 10)[:, None]

    def sampled():
        return [
            np.sum((np.sqrt(weights)[:, None] * random.normal(size=(TERMS, 10)) + offset) ** 2)
            for _ in range(SAMPLES)
        ]

    return {
        "exact tail": lambda: generalised_chi_squared.log_cdf(q, target),
        "saddle point": lambda: generalised_chi_squared.saddlepoint(q, target),
        "its samples": sampled,
    }


def measure() -> list[dict]:
    rows = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of a given number of steps
        for draw in (networks, attentions, neighbours, mixtures, tails):
            times = rounds(draw())
            for ours in [name for name in times if not _is_peer(name)]:
                for peer in filter(_is_peer, times):
                    pairs = zip(times[ours], times[peer], strict=True)
                    rows.append(
                        {
                            "name": ours,
                            "milliseconds": 1e3 * statistics.median(times[ours]),
                            "peer": peer,
                            "ratio": statistics.median(one / other for one, other in pairs),
                        }
                    )
    return rows


def _is_peer(name: str) -> bool:
    return name.startswith(("their ", "products", "scikit", "saddle", "its "))


def report(rows: list[dict]) -> None:
    print(f"\n  {'':<28} {'ms':>8} {'over':>24}")
    for row in rows:
        name, peer = row["name"], row["peer"]
        print(f"  {name:<28} {row['milliseconds']:8.1f} {row['ratio']:10.3g} of {peer}")


def main() -> None:
    arguments = _record.parser("theory", __doc__).parse_args()
    core, environment = pin_to_one_core(), _environment.describe()
    print(f"JAX {environment['versions']['jax']}, pinned to core {core}")
    rows = measure()
    report(rows)
    _record.append(arguments.out, "theory", environment | {"rows": rows})


if __name__ == "__main__":
    main()
