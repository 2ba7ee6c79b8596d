"""Input sets of the reviews: token sequences of one length, as from Keras' `imdb.load_data` and `pad_sequences`."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stages.lib.errors import UserError
from stages.lib.files import atomic_output, format_reason, open_input, require_input
from stages.lib.settings.base import read_settings
from stages.lib.settings.reviews import Reviews
from stages.lib.settings.tokens import Tokens
from stages.lib.windows.input_set import Meta, save_input_set
from stages.samples.reviews import SHA256 as SAMPLE

START, UNKNOWN, OFFSET = 1, 2, 3  # as in Keras' imdb.load_data, where 0 is padding
SHUFFLE = 113  # Keras' seed for shuffling the reviews before the last ones are held out
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def read_trusted(path: Path, synthetic: bool, sha256: str | None) -> bytes:
    """Return the content of `path`; raise UserError unless it has the expected hash.

    The expected hash is `sha256`, or for `synthetic` data that of the sample. The content will be unpickled, which
    can run code.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if synthetic:
        if digest != SAMPLE:
            raise UserError(
                f"{path}: expected the sample with the sha256 {SAMPLE}, found {digest}; "
                "make it again with `dvc repro -f download@reviews`"
            )
    elif sha256 is None:
        raise UserError(
            f"params.yaml: reviews.sha256: expected the hash of {path}, found null; the file holds pickled "
            f"objects, which can run code when read: if you trust it, set reviews.sha256 to {digest}"
        )
    elif digest != sha256.lower():
        raise UserError(f"{path}: expected the sha256 {sha256} (params.yaml: reviews.sha256), found {digest}")
    return content


def read_reviews(
    content: bytes, path: Path, vocabulary: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x_train, y_train, x_test and y_test of `content`, ordered as by Keras' `imdb.load_data`.

    x are object arrays of integer arrays of word ranks, y are labels. Raises UserError naming `path` if the content
    is not such an archive, lengths differ, a label is not 0 or 1, or a word rank is not in [1, vocabulary].
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=True) as archive:
            arrays = {key: archive[key] for key in ARRAYS if key in archive}
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path}: cannot be read as an .npz archive ({format_reason(error)})") from None

    for key in ARRAYS:
        if key not in arrays:
            raise UserError(f"{path}: no array {key}; expected the layout of Keras' imdb.npz")

    random = np.random.RandomState(SHUFFLE)
    ordered = []
    for split_name in ("train", "test"):
        x, y = arrays[f"x_{split_name}"], arrays[f"y_{split_name}"]
        if x.ndim < 1 or y.ndim != 1:
            raise UserError(
                f"{path}: x_{split_name} or y_{split_name} is not a list; expected the layout of Keras' imdb.npz"
            )
        if len(x) != len(y) or not len(x):
            raise UserError(f"{path}: x_{split_name} has {len(x):,} reviews and y_{split_name} {len(y):,} labels")
        wrong = np.flatnonzero(~np.isin(y, (0, 1)))
        if len(wrong):
            raise UserError(f"{path}: y_{split_name}[{wrong[0]}] is {y[wrong[0]]}; a label must be 0 or 1")
        ranks = np.empty(len(x), object)
        for index, review in enumerate(tqdm(x, f"check {split_name}", disable=None, leave=False)):
            try:
                review_ranks = np.asarray(review.tolist() if isinstance(review, np.ndarray) else review)
            except ValueError:  # lists of different lengths in a list
                review_ranks = np.asarray(None)
            if review_ranks.ndim != 1 or (len(review_ranks) and review_ranks.dtype.kind not in "iu"):
                raise UserError(f"{path}: x_{split_name}[{index}] is not a list of word ranks")
            low, high = review_ranks.min(initial=1), review_ranks.max(initial=1)
            if low < 1 or high > vocabulary:
                raise UserError(
                    f"{path}: x_{split_name}[{index}] has the word rank {high if high > vocabulary else low}; "
                    f"expected 1 to {vocabulary:,} (params.yaml: reviews.vocabulary)"
                )
            ranks[index] = review_ranks.astype(np.int64)
        order = random.permutation(len(x))
        ordered += [ranks[order], y[order]]
    return tuple(ordered)


def pad_reviews(reviews: np.ndarray, words: int, length: int, reverse: bool) -> np.ndarray:
    """Return (reviews, length) int16 tokens for `reviews`, an object array of arrays of word ranks from 1.

    As in Keras' `imdb.load_data` and `pad_sequences`: a review begins with START, OFFSET is added to each rank, and
    tokens from `words` on become UNKNOWN. A long review keeps its last `length` tokens; a short one is padded with
    0 in front. `reverse` reverses the tokens first, so that a long review keeps its beginning.
    """
    padded = np.zeros((len(reviews), length), np.int16)
    for index, ranks in enumerate(reviews):
        tokens = np.concatenate([[START], ranks + OFFSET])
        tokens[tokens >= words] = UNKNOWN
        tokens = (tokens[::-1] if reverse else tokens)[-length:]
        padded[index, length - len(tokens) :] = tokens
    return padded


def tokens(name: str) -> None:
    """Write the text input set `name` of params.yaml `tokens` to data/inputs/NAME."""
    settings, reviews = read_settings(Tokens, "tokens", name), read_settings(Reviews, "reviews")
    words, length = settings.words, settings.length

    raw = Path("data/raw/reviews")
    with open_input(raw / "source.json", "download@reviews") as path:
        source = json.loads(path.read_text(encoding="utf-8"))
        synthetic, file = source["synthetic"], source["files"][0]["name"]
    path = require_input(raw / file, "download@reviews")
    content = read_trusted(path, synthetic, reviews.sha256)
    x_train, y_train, x_test, y_test = read_reviews(content, path, reviews.vocabulary)
    rows = np.concatenate([pad_reviews(x, words, length, settings.reverse) for x in (x_train, x_test)])
    first_val = int(len(x_train) * (1 - settings.val))  # Keras' validation_split
    if not first_val:
        raise UserError(
            f"params.yaml: tokens.{name}.val: {settings.val} leaves none of {len(x_train):,} for training"
        )
    bounds = {
        "train": (0, first_val),
        "val": (first_val, len(x_train)),
        "test": (len(x_train), len(rows)),
    }
    labels = np.concatenate([y_train, y_test])
    splits = {
        split_name: (np.arange(first, last) * length, labels[first:last], None)
        for split_name, (first, last) in bounds.items()
    }
    with atomic_output(f"data/inputs/{name}") as directory:
        save_input_set(directory, rows.ravel(), splits, Meta(time=length, words=words))
    print(f"{name}: " + ", ".join(f"{split_name} {last - first:,}" for split_name, (first, last) in bounds.items()))
