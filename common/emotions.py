"""Names of expressions, their numbers in each data set, and the compound decision rule.

Every name and every order is defined here, once. The six logits of a classifier follow `BASIC`; the
seven classes of a submission follow `CHALLENGE`, the order of the challenge's own header.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

# Order of the six logits, as in the authors' released code.
BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger")

# Expressions that are never part of a compound.
ALONE = ("Neutral", "Contempt")

# Classes of the adaptation phase (paper §3.2): AffectNet's eight.
ADAPTATION = (*BASIC, *ALONE)

# The encoder is adapted on AffectNet and Aff-Wild2, in every form that 01 reads; the six logits are
# trained on all other sets (paper §3.2, §3.3).
ADAPTATION_SETS = ("AffectNet", "AffectNet+", "Aff-Wild2", "s-Aff-Wild2")

# The challenge's classes 0..6, spelled as in the header of its frame list.
CHALLENGE = (
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Surprised",
    "Disgustedly_Surprised",
    "Angrily_Surprised",
    "Sadly_Fearful",
    "Sadly_Angry",
)

# RAF-DB's compound classes 1..11 (its label file counts from 1).
RAF11 = (
    "Happily Surprised",
    "Happily Disgusted",
    "Sadly Fearful",
    "Sadly Angry",
    "Sadly Surprised",
    "Sadly Disgusted",
    "Fearfully Angry",
    "Fearfully Surprised",
    "Angrily Surprised",
    "Angrily Disgusted",
    "Disgustedly Surprised",
)

# RAF-CE's classes 0..13: they count from 0, and their order is not RAF-DB's.
RAFCE14 = (
    "Happily Surprised",
    "Happily Disgusted",
    "Sadly Fearful",
    "Sadly Angry",
    "Sadly Surprised",
    "Sadly Disgusted",
    "Fearfully Angry",
    "Fearfully Surprised",
    "Fearfully Disgusted",
    "Angrily Surprised",
    "Angrily Disgusted",
    "Disgustedly Surprised",
    "Happily Fearful",
    "Happily Sad",
)

_SYNONYMS = {
    "Surprise": "surprise surprised surprisedly astonished astonishment amazed suprise",
    "Fear": "fear fearful fearfully afraid scared fright frightened",
    "Disgust": "disgust disgusted disgustedly disgusting",
    "Happiness": "happiness happy happily joy joyful smile",
    "Sadness": "sadness sad sadly sorrow",
    "Anger": "anger angry angrily mad",
    "Neutral": "neutral calm",
    "Contempt": "contempt contemptuous contemptuously",
}
_NAME_OF = {word: name for name, words in _SYNONYMS.items() for word in words.split()}


LABEL_JOINTS = re.compile(r"[\s+|;,_&/]+")


def parse_labels(text: str) -> tuple[str, ...]:
    """Read one label as people write it: `happy`, `SADNESS`, `Sadly Angry`, `fear+surprise`.

    Space, `+`, `|`, `;`, `,`, `_`, `&` or `/` may join the words; case does not matter, and common
    synonyms are known. Returns one or two canonical names in alphabetical order, such as
    ("Anger", "Sadness"). Raises ValueError for an unknown word, an empty label, more than two
    emotions, or `Neutral` or `Contempt` with another expression.
    """
    words = [word for word in LABEL_JOINTS.split(text.strip().lower()) if word]
    if not words:
        raise ValueError("empty label")
    unknown = [word for word in words if word not in _NAME_OF]
    if unknown:
        close = _nearest_word(unknown[0][:20])
        known = f"like {close}?" if close else f"known: {', '.join(ADAPTATION)}"
        raise ValueError(f"unknown expression {unknown[0]!r} in {text!r} ({known})")
    names = sorted({_NAME_OF[word] for word in words})
    if len(names) > 2 or (len(names) == 2 and set(names) & set(ALONE)):
        raise ValueError(f"the expressions of {text!r} do not make a compound")
    return tuple(names)


@lru_cache(1024)  # every row of a large table may have the same mistake
def _nearest_word(word: str) -> str:
    """Return the known word most like one, or ""."""
    return next(iter(difflib.get_close_matches(word, _NAME_OF, n=1)), "")


def parts_of(name: str) -> tuple[int, int]:
    """Return the indices in `BASIC` of a compound's two emotions, in the order of its name."""
    words = re.split(r"[\s_]+", name.lower())
    first, second = (BASIC.index(_NAME_OF[word]) for word in words)
    return first, second


# Pairs of indices in BASIC, in the order of CHALLENGE and of RAF11.
CHALLENGE_PAIRS = tuple(parts_of(name) for name in CHALLENGE)
RAF11_PAIRS = tuple(parts_of(name) for name in RAF11)

# The emotions in the upper and the lower face of each challenge class, in the order of CHALLENGE:
# from the action units of Du, Tao & Martinez, PNAS 2014, table 1. For example, fearfully surprised
# is 1 2 5 | 20 25: brows and lids of surprise over the mouth of fear.
UPPER_OVER_LOWER = tuple(
    (BASIC.index(upper), BASIC.index(lower))
    for upper, lower in (
        ("Surprise", "Fear"),  # 1 2 5 | 20 25
        ("Surprise", "Happiness"),  # 1 2 | 12 25
        ("Sadness", "Surprise"),  # 1 4 | 25 26
        ("Surprise", "Disgust"),  # 1 2 5 | 10
        ("Anger", "Surprise"),  # 4 | 25 26
        ("Fear", "Sadness"),  # 1 4 | 15 25
        ("Anger", "Sadness"),  # 4 7 | 15
    )
)


def label_of(pair: Iterable[int]) -> str:
    """Return the manifest's label of some emotions, given as indices in `BASIC`."""
    return " ".join(sorted(BASIC[index] for index in pair))


_CHALLENGE_CLASS = {label_of(pair): index for index, pair in enumerate(CHALLENGE_PAIRS)}


def multi_hot(labels: str, names: tuple[str, ...] = BASIC) -> np.ndarray:
    """Return float32 [6] in the order of `BASIC` for a manifest label such as `Fear Surprise`.

    `Neutral`, `Contempt` and the empty label give zeros; but with ADAPTATION as names the result is
    float32 [8], and they have places of their own. Raises ValueError for any other name.
    """
    vector = np.zeros(len(names), dtype=np.float32)
    for name in labels.split():
        if name in names or name not in ALONE:
            vector[names.index(name)] = 1.0
    return vector


def challenge_class(labels: str) -> int:
    """Return the challenge's class 0..6 of a manifest label, or -1 if it is none of the seven."""
    return _CHALLENGE_CLASS.get(" ".join(sorted(labels.split())), -1)


# The score of a compound from the probabilities of its two emotions, arrays of one shape: the rule
# of the paper (§3.4), two of other teams.
RULES = {
    "sum": lambda a, b: a + b,
    "geometric": lambda a, b: np.sqrt(a * b),
    "harmonic": lambda a, b: 2 * a * b / np.maximum(a + b, 1e-12),
}


def compound_scores(probabilities: np.ndarray, rule: str = "sum") -> np.ndarray:
    """Score the seven compounds from the six probabilities of single emotions (paper §3.4).

    probabilities: float [N, 6] in 0..1, order of `BASIC`. rule: a key of RULES. Returns float
    [N, 7], order of `CHALLENGE`; the decision is its argmax.
    """
    first, second = np.asarray(CHALLENGE_PAIRS).T
    return RULES[rule](probabilities[:, first], probabilities[:, second])
