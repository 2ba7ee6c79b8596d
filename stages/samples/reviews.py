"""Synthetic reviews in the layout of Keras' imdb.npz, to try the pipeline without a network.

Words are frequency ranks without meaning, except for a few that praise or blame. Most reviews have more words of
the kind that fits their label.
"""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# SHA-256 of sample.npz. It has pickles, and the stage `tokens` unpickles only files with a known hash.
SHA256 = "21e5e13e32ae8a7008498a9e58932f31aaa7e28fa3451de68cfa7effaea47c75"

REVIEWS = 2_000  # in each of train and test
WORDS = 20_000  # ranks 1 ... WORDS, the most frequent first
SHORTEST, LONGEST = 20, 900  # words
OPINION_WORDS = 10  # that praise, and as many that blame
OPINION_RANKS = (100, 1_000)  # from which they are drawn
OPINION_SHARE = 0.12  # fraction of a review's words
CLARITY = 1.1  # mean leaning in standard deviations from neutral: 86 % lean towards their label
SEED = 25_000


def sample_lengths(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return `count` review lengths in words: log-normal with median 170, clipped to SHORTEST ... LONGEST."""
    return np.clip(np.exp(rng.normal(np.log(170), 0.65, count)), SHORTEST, LONGEST).astype(int)


def sample_reviews(rng: np.random.Generator, opinions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, y): an object array of REVIEWS lists of ranks, and int64 labels 0 and 1.

    `opinions` (2, OPINION_WORDS) has the words that blame, then those that praise.
    """
    labels = rng.permutation(np.arange(REVIEWS, dtype=np.int64) % 2)
    leaning = (2 * labels - 1) * CLARITY + rng.standard_normal(REVIEWS)
    praise = 1 / (1 + np.exp(-3 * leaning))  # fraction of a review's opinion words that praise
    sizes = sample_lengths(rng, REVIEWS)
    total = sizes.sum()
    zipf = 1 / (np.arange(1, WORDS + 1) + 2.7)
    words = rng.choice(np.arange(1, WORDS + 1), total, p=zipf / zipf.sum())
    kind = (rng.random(total) < np.repeat(praise, sizes)).astype(int)
    opinion = opinions[kind, rng.integers(OPINION_WORDS, size=total)]
    words = np.where(rng.random(total) < OPINION_SHARE, opinion, words)
    x = np.empty(REVIEWS, dtype=object)
    x[:] = [review.tolist() for review in np.split(words, np.cumsum(sizes)[:-1])]
    return x, labels


class Pickled:
    """An object whose pickle loads as an object array of `lists`; its bytes do not depend on numpy's version."""

    def __init__(self, lists: np.ndarray) -> None:
        self.lists = lists.tolist()

    def __reduce__(self) -> tuple[Any, ...]:
        return np.array, (self.lists, "O")


def write_sample(directory: Path) -> None:
    """Write `sample.npz` into `directory`: x_train, y_train, x_test, y_test, always the same bytes."""
    rng = np.random.default_rng(SEED)
    opinions = rng.choice(np.arange(*OPINION_RANKS), (2, OPINION_WORDS), replace=False)
    with zipfile.ZipFile(directory / "sample.npz", "w") as archive:
        for split_name in ("train", "test"):
            x, y = sample_reviews(rng, opinions)
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": x.shape})
            labels = io.BytesIO()
            np.save(labels, y.astype("<i8"))
            reviews = header.getvalue() + pickle.dumps(Pickled(x), protocol=4)
            for name, content in ((f"x_{split_name}", reviews), (f"y_{split_name}", labels.getvalue())):
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content)
