"""The methods of `concrete_tickets`: each chooses a mask for every seed and density at once."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _concrete_tickets_networks as networks
from ntkens import tree
from ntkens.data import Examples
from ntkens.sparsity import budgets, masks, objectives, pruning, rewinding, tickets
from ntkens.training import members


class Method(NamedTuple):
    """How a mask is chosen.

    Attributes:
        rewound: from the rewind point, and trained from there; or at initialisation.
        score: of `pruning`, where it is one.
        objective: of `OBJECTIVES`, where it is concrete ticket search.
        control: of its multiplier, of `tickets`.
        short: whether the search is the short one.
        variant: of the gates.
        checks: what else is trained: the mask shuffled or inverted, or with params drawn anew.
        sparsest: whether the lowest densities alone are measured, at most 2 of them.
    """

    rewound: bool = False
    score: str = ""
    objective: str = ""
    control: Callable[[], tickets.Control] = tickets.grad_balance
    short: bool = False
    variant: Any = "standard"
    checks: tuple[str, ...] = ()
    sparsest: bool = False


OBJECTIVES: dict[str, Callable[[networks.Task], objectives.Objective]] = {
    "loss": lambda task: objectives.task_loss(task.loss),
    "loss change": lambda task: objectives.loss_change(task.loss),
    "gradient norm": lambda task: objectives.gradient_norm(task.loss),
    "KL": lambda task: objectives.reverse_kl(task.apply),
    "forward KL": lambda task: objectives.forward_kl(task.apply),
    "features": lambda task: objectives.feature_matching(task.features),
    "gradients": lambda task: objectives.gradient_matching(task.loss),
}

METHODS = {
    "random": Method(score="random"),
    "magnitude": Method(score="magnitude"),
    "SNIP": Method(score="snip", checks=("shuffled",)),
    "GraSP": Method(score="grasp"),
    "SynFlow": Method(score="synflow"),
    "CTS loss": Method(objective="loss"),
    "CTS KL": Method(objective="KL", checks=("shuffled", "inverted", "drawn anew")),
    "CTS forward KL": Method(objective="forward KL"),
    "CTS features": Method(objective="features"),
    "CTS gradients": Method(objective="gradients"),
    "CTS gradient norm": Method(objective="gradient norm", sparsest=True),
    "CTS loss change": Method(objective="loss change", sparsest=True),
    "CTS KL, authors' gates": Method(objective="KL", variant="authors"),
    "rewound CTS loss": Method(rewound=True, objective="loss"),
    "rewound CTS KL": Method(rewound=True, objective="KL"),
    "LTR": Method(rewound=True),
    "short CTS KL": Method(True, objective="KL", short=True),
    "short CTS KL, Lagrange": Method(True, objective="KL", control=tickets.lagrange, short=True),
    "short CTS gradients": Method(True, objective="gradients", short=True),
    "short CTS gradients, Lagrange": Method(
        True, objective="gradients", control=tickets.lagrange, short=True
    ),
}  # fmt: skip


class Seeds(NamedTuple):
    """Networks by seed.

    Attributes:
        keys: of each.
        params: at the point where masks are chosen and training starts.
        other: params drawn anew.
    """

    keys: Any
    params: Any
    other: Any


class Chosen(NamedTuple):
    """What a method found for each of seeds x densities, seeds first.

    Attributes:
        masks: by check, "" the ticket itself.
        found: numbers about the search, by name.
        seconds: of all of them, without compilation.
        steps: of gradient descent that one ticket of the lowest density took.
        accuracies: of LTR, whose tickets are trained already.
    """

    masks: dict[str, Any]
    found: dict[str, np.ndarray]
    seconds: float
    steps: int
    accuracies: np.ndarray | None = None


def densities(config, method: Method) -> tuple[float, ...]:
    """Those at which a method is measured."""
    return tuple(sorted(config.densities)[:2][::-1]) if method.sparsest else config.densities


def mapped(function, stacked, *shared) -> Any:
    """`members.map` over all devices; compiled once for one function object."""
    chunk = 1 if jax.default_backend() == "cpu" else None  # a member is larger than a cache
    return members.map(function, stacked, *shared, chunk=chunk, mesh=members.all_devices())


def timed(function, stacked, *shared) -> tuple[Any, float]:
    """The same, and its seconds without compilation."""
    program = jax.jit(functools.partial(mapped, function)).lower(stacked, *shared).compile()
    start = time.perf_counter()
    result = jax.block_until_ready(program(stacked, *shared))
    return result, time.perf_counter() - start


def start(config, found: networks.Task, first: int, *, rewound: bool) -> Seeds:
    """The networks of some seeds, as initialised or at the rewind point."""
    count = min(config.together, config.seeds - first)
    keys = members.keys(jax.random.key(config.seed), first + count)[first:]
    return mapped(_starting(config, found, rewound), keys, on_device(found.data.train))


def on_device(examples: Examples) -> Examples:
    """As arrays that a program takes as they are."""
    arrays: Any = map(jnp.asarray, examples)
    return Examples(*arrays)


@functools.lru_cache(maxsize=2)  # a new function would be compiled anew
def _starting(config, found, rewound):
    def one(key, train):
        params, other = (found.init(jax.random.fold_in(key, i), train.inputs[:1]) for i in range(2))
        if rewound:
            params = networks.to_rewind_point(config, found, key, params, train)
        return Seeds(key, params, other)

    return one


def choose(config, found: networks.Task, method: Method, seeds: Seeds) -> Chosen:
    """The masks of every seed at every density, as one program."""
    train = on_device(found.data.train)
    weights = jax.eval_shape(lambda params: masks.weights(tree.index(params, 0)), seeds.params)
    if not (method.score or method.objective):
        return _rewound_tickets(config, found, seeds, weights, train)
    kept = jnp.array([budgets.kept(weights, each) for each in densities(config, method)])
    own = flat((seeds.keys, seeds.params), kept)
    epochs = config.short if method.short else config.search
    of_one = _scored if method.score else functools.partial(_searched, epochs=epochs)
    of_one = functools.partial(of_one, config, found, method)

    def one(own, train):
        (key, params), kept = own
        scores, ticket, numbers = of_one(jax.random.fold_in(key, 2), params, kept, train)
        chosen = {"": ticket}
        if "shuffled" in method.checks:
            chosen["shuffled"] = masks.shuffled(jax.random.fold_in(key, 3), ticket)
        if "inverted" in method.checks:
            chosen["inverted"] = masks.inverted(scores, kept)
        return chosen, numbers

    (chosen, numbers), seconds = timed(one, own, train)
    steps = epochs * (len(train.labels) // min(config.batch, len(train.labels)))
    numbers = jax.tree.map(np.asarray, numbers)
    return Chosen(chosen, numbers, seconds, steps if method.objective else 0)


def flat(of_seeds, of_densities):
    """One member for each seed and density, seeds first."""
    count, seeds = len(of_densities), len(jax.tree.leaves(of_seeds)[0])
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=0), of_seeds)
    return repeated, jnp.tile(of_densities, seeds)


def _scored(config, found, method, key, params, kept, train) -> tuple[Any, masks.Mask, dict]:
    weights = masks.weights(params)
    batch = [each[: config.scored] for each in train]
    match method.score:
        case "random":
            scores = pruning.random(key, weights)
        case "magnitude":
            scores = pruning.magnitude(weights)
        case "snip":
            scores = pruning.snip(found.loss, params, *batch)
        case "grasp":
            scores = pruning.grasp(found.loss, params, *batch)
        case _:

            def score(mask):
                return pruning.synflow(found.flow, masks.apply(params, mask), batch[0][:1])

            return None, pruning.in_rounds(score, weights, kept, rounds=config.rounds), {}
    return scores, masks.top(scores, kept), {}


def _searched(config, found, method, key, params, kept, train, *, epochs):
    logits, info = tickets.search(
        key, OBJECTIVES[method.objective](found), params, train, kept, epochs=epochs,
        batch=config.batch, rate=config.search_rate, control=method.control(),
        variant=method.variant, augment=found.augment,
    )  # fmt: skip
    numbers = {"settled": info.expected[-1] / kept}
    if method.control is tickets.grad_balance:
        numbers["imbalance"] = imbalance(info)
    return logits, masks.top(logits, kept), numbers


def imbalance(info: tickets.Info):
    """The most that lambda* |g_s| is off |g_t| while too many gates are open, relative to it.

    Infinite if lambda* is not 0 at any other step.
    """
    is_over = info.surplus > 0
    gap = jnp.abs(info.target * info.sparsity_norm - info.task_norm)
    gap = gap / jnp.where(info.task_norm > 0, info.task_norm, 1)
    relative = jnp.where(is_over, gap, jnp.where(info.target == 0, 0, jnp.inf))
    return jnp.max(relative)


def _rewound_tickets(config, found, seeds, weights, train):
    """Magnitude pruning with rewinding: one path for each seed, whose end serves all densities."""
    levels = rewinding.levels(weights, config.densities)
    test = on_device(found.data.test)

    def one(own, train, test):
        key, params = own

        def train_from(params, mask):
            return networks.trained(config, found, key, params, mask, train, rewound=True)

        path = rewinding.path(train_from, params, levels)
        rated = jax.lax.map(lambda params: networks.accuracy(found, params, test), path.params)
        return path.mask, rated

    (chosen, accuracies), seconds = timed(one, (seeds.keys, seeds.params), train, test)
    chosen = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), chosen)
    trainings = len(levels.kept) - 1  # the last one is no search, but the ticket's own
    steps = (config.epochs - config.rewind) * -(-len(train.labels) // config.batch)
    seconds *= trainings / (trainings + 1)
    return Chosen({"": chosen}, {}, seconds, trainings * steps, np.asarray(accuracies).ravel())
