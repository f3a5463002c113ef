"""The Gaussian mixture of `unsupervised_pretraining`: a label that depends on the component."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments import _unsupervised_pretraining_factors as factors
from experiments._unsupervised_pretraining_images import ridge
from ntkens.predictors import factor_model, gaussian_mixture
from ntkens.predictors.gaussian_mixture import Mixture

TEST = 2000  # inputs on which a repeat's predictions are compared with the best ones
RESTARTS, STEPS, TOLERANCE = 4, 200, 1e-7


def truth(components: int, width: int, separation: float) -> Mixture:
    """Equally likely components; any two means are the separation apart."""
    means = separation / np.sqrt(2) * np.eye(components, width)
    parts = np.full(components, -np.log(components)), means, np.ones(())
    return Mixture(*map(jnp.asarray, parts))


def chances(components: int):
    """The probability of label 1 in each component."""
    return jnp.linspace(0.1, 0.9, components)


def draw(key, mixture: Mixture, count: int):
    """Inputs with their labels, 0.0 or 1.0."""
    of_component, of_noise, of_label = jax.random.split(key, 3)
    components, width = mixture.means.shape
    component = jax.random.randint(of_component, (count,), 0, components)
    inputs = mixture.means[component] + jax.random.normal(of_noise, (count, width))
    labels = jax.random.bernoulli(of_label, chances(components)[component])
    return inputs, labels.astype(inputs.dtype)


def _draws(key, truth, labels):
    """The labelled examples of a repeat, the same for all methods; test inputs and best answers."""
    of_labelled, of_test, *_ = jax.random.split(key, 4)
    test, _ = draw(of_test, truth, TEST)
    goal = gaussian_mixture.predict(truth, chances(len(truth.means)), test)
    return *draw(of_labelled, truth, labels), test, goal


@functools.cache
def _mixture(count, most):
    """Learnt from so many unlabelled inputs, or from the first of `most` labelled ones alone."""

    def one(own, truth):
        of_labelled, _, of_inputs, of_fit = jax.random.split(own[0], 4)
        if most is None:
            inputs, _ = draw(of_inputs, truth, count)
        else:
            inputs = draw(of_labelled, truth, most)[0][:count]
        found, info = gaussian_mixture.fit(
            of_fit, inputs, len(truth.means), restarts=RESTARTS, steps=STEPS, tolerance=TOLERANCE
        )
        return found, info.dead, info.converged

    return one


@functools.cache
def _examples(most):
    return lambda own, truth: _draws(own[0], truth, most)


@functools.cache
def _excess(most):
    """Of the first labelled examples, with component means and with least squares."""

    def one(own, truth, labels):
        key, learnt = own
        inputs, targets, test, goal = _draws(key, truth, most)
        every, unseen = (gaussian_mixture.posterior(learnt, each) for each in (inputs, test))

        def at(labels):
            is_seen = jnp.arange(most) < labels
            shares = jnp.where(is_seen[:, None], every, 0)
            known = jnp.where(is_seen, targets, 0)
            rules = (
                gaussian_mixture.component_means(shares, known),
                factor_model.regress(shares, known),
            )
            return jnp.stack([risk(unseen @ values, goal) for values in rules])

        return jax.lax.map(at, labels)

    return one


def risk(predictions, goal):
    """The mean squared distance to the best predictions; chances lie in [0, 1]."""
    return jnp.mean((jnp.clip(predictions, 0, 1) - goal) ** 2)


def _linear(counts, inputs, targets, test, goal):
    """Ridge regression on the inputs themselves, in NumPy: each count has a shape of its own."""
    targets, goal = targets[:, None], goal[:, None]
    predictions = [ridge(inputs[:count], targets[:count], test) for count in counts]
    return [[np.mean((np.clip(each, 0, 1) - goal) ** 2)] for each in predictions]


def measured(config, separation: float, method: str, samples: int):
    """Excess squared risks at each number of labels, by both rules for the components' values."""
    at = truth(config.components, config.mixture_width, separation)
    counts, most = config.mixture_labels, max(config.mixture_labels)
    nothing = jnp.zeros(config.repeats)

    def risks(learnt):
        labels = jnp.asarray(counts)
        return np.asarray(factors.repeat(config, 5, _excess(most), learnt, at, labels))

    fits = []
    if method == "linear":
        drawn = map(np.asarray, factors.repeat(config, 5, _examples(most), nothing, at))
        found = np.array([_linear(counts, *each) for each in zip(*drawn, strict=True)])
    elif method == "oracle":
        found = risks(jax.tree.map(lambda leaf: factors.everywhere(config, leaf), at))
    elif method == "pretrained":
        fits = [factors.repeat(config, 5, _mixture(samples, None), nothing, at)] * len(counts)
        found = risks(fits[0][0])
    else:
        fits = [factors.repeat(config, 5, _mixture(count, most), nothing, at) for count in counts]
        places = [risks(learnt)[:, place] for place, (learnt, _, _) in enumerate(fits)]
        found = np.stack(places, axis=1)
    for place, labels in enumerate(counts):
        row = {"labels": labels, "excess": found[:, place, 0]}
        row |= {"least_squares": found[:, place, -1]}
        if fits:
            _, dead, converged = fits[place]
            row |= {"dead": int(np.sum(dead)), "unconverged": int(np.sum(~converged))}
        if method == "oracle":
            row["expected"] = known_components(np.asarray(chances(config.components)), labels)
        yield row


def known_components(chances, labels: int) -> float:
    """The expected excess of component means where each input tells its component.

        sum_k q_k (1 - q_k) / K  E[1 / n_k; n_k > 0],    n_k ~ Binomial(n, 1 / K)

    A component without labels, which adds at most P(n_k = 0), is left out.
    """
    counts = np.arange(1, labels + 1)
    inverse = np.sum(stats.binom.pmf(counts, labels, 1 / len(chances)) / counts)
    return float(np.mean(chances * (1 - chances)) * inverse)
