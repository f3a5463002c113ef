"""The poisoning of `run_off_election`: which buckets a greedy adversary takes, and what is done."""

from typing import Literal, NamedTuple

import numpy as np

from ntkens.data import Examples

Attack = Literal["flip", "insert"]
ATTACKS: tuple[Attack, ...] = ("flip", "insert")


class Plan(NamedTuple):
    """What the adversary means to do, who knows the learners and the test set.

    Attributes:
        buckets: to be changed, in the order in which they were chosen.
        rivals: the class that examples of each class are to be taken for.
    """

    buckets: np.ndarray
    rivals: np.ndarray


def plan(logits: np.ndarray, spread: np.ndarray, touched: int) -> Plan:
    """Buckets one after another, each by what its learners' votes are worth in close elections.

    The adversary reckons with learners that vote for the runner-up once one of their buckets is
    changed: a vote is worth 2 if it is the winner's, 1 if a third's, over 1 + the lead; nothing in
    elections that are won already.
    """
    votes = logits.argmax(axis=2)
    classes = logits.shape[2]
    tally = (votes[:, :, None] == np.arange(classes)).sum(axis=0)
    winner, runner_up = np.argsort(-tally, axis=1, kind="stable")[:, :2].T
    each = np.arange(len(winner))
    worth = (votes == winner).astype(float) + (votes != runner_up)
    lead = tally[each, winner] - tally[each, runner_up]
    chosen: list[int] = []
    for _ in range(touched):
        weight = np.where(lead >= 0, 1 / (1 + np.maximum(lead, 0)), 0)
        value = spread.T @ (worth @ weight)
        value[chosen] = -1
        chosen.append(int(value.argmax()))
        fed = spread[:, chosen[-1]]
        lead = lead - worth[fed].sum(axis=0)
        worth[fed] = 0
    rivals = (np.arange(classes) + 1) % classes
    for label in np.unique(winner):
        rivals[label] = np.bincount(runner_up[winner == label]).argmax()
    return Plan(np.array(chosen), rivals)


def poison(
    train: Examples, buckets: np.ndarray, plan: Plan, attack: Attack
) -> tuple[Examples, int]:
    """The training set after the attack, and how many examples were changed or added.

    All in the chosen buckets: their labels are flipped to the rival class, or their images are
    inserted once more under it. Far more examples than buckets: a certificate promises as much, for
    it counts what any change of a bucket can do, and single examples seldom do any harm.

    Args:
        train: the clean training set.
        buckets: of each of its examples.
        plan: what the adversary means to do.
        attack: how it is done.
    """
    hit = np.isin(buckets, plan.buckets)
    rivals = plan.rivals.astype(train.labels.dtype)[train.labels]
    if attack == "flip":
        poisoned = Examples(train.inputs, np.where(hit, rivals, train.labels))
    else:
        poisoned = Examples(
            np.concatenate([train.inputs, train.inputs[hit]]),
            np.concatenate([train.labels, rivals[hit]]),
        )
    return poisoned, int(hit.sum())
