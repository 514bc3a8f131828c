"""Votes of several people on one face, and the single or compound expression that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.emotions import ADAPTATION, BASIC

# The least votes, of ten, of each of the two strongest emotions, and of both together.
RULE = (3, 7)


def labels_of(votes: Sequence[int], rule: tuple[int, int], others: Sequence[int] = ()) -> tuple:
    """Return the labels that votes make: two for a compound, one for a single, none for neither.

    votes: of each expression of ADAPTATION. others: of each choice that is no expression, such as
    `no face`. A compound: the two strongest of the six emotions have rule[0] votes or more each,
    and rule[1] or more together; emotions with equal votes rank in the order of BASIC. A single:
    the winner has more than half of the votes, those of one person alone not counted (the majority
    rule of FERPlus, Barsoum et al. 2016). Labels are in alphabetical order.
    """
    first, second = sorted(range(len(BASIC)), key=lambda n: -votes[n])[:2]
    if votes[second] >= rule[0] and votes[first] + votes[second] >= rule[1]:
        return tuple(sorted((BASIC[first], BASIC[second])))
    winner = majority_of((*votes, *others))
    return (ADAPTATION[winner],) if winner is not None and winner < len(ADAPTATION) else ()


def majority_of(votes: Sequence[int]) -> int | None:
    """Return the place of the majority's choice, None where there is no majority."""
    counted = [n if n > 1 else 0 for n in votes]
    return counted.index(max(counted)) if 2 * max(counted) > sum(counted) else None


def count_labels(counts: Counter, labels: Sequence[str], rule: tuple[int, int]) -> None:
    """Count what votes make, in a data set, as remarks for the user."""
    if len(labels) == 2:
        least, together = rule
        counts[f"compounds by votes, {least} or more each and {together} or more together"] += 1
    elif labels:
        counts["singles by the majority of votes"] += 1
    else:
        counts["votes without a majority, which make no label"] += 1
