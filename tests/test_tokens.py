"""Reviews as tokens, against Keras' own loader and padding, and files that are not what they should be."""

import stages.lib.nn.environment  # noqa: F401, before Keras

# isort: split

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.datasets import imdb
from keras.utils import pad_sequences

from stages import tokens as stage
from stages.lib.errors import UserError
from stages.lib.windows.input_set import load_input_set
from stages.samples import reviews as sample

VOCABULARY = 50
ranks = st.lists(st.integers(1, VOCABULARY), max_size=30)


def to_object_array(reviews):
    """An object array of `reviews`, as in Keras' file."""
    array = np.empty(len(reviews), object)
    array[:] = reviews
    return array


def make_arrays(train=20, test=7):
    """The four arrays of a small archive."""
    random = np.random.default_rng(5)
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        reviews = [random.integers(1, VOCABULARY + 1, random.integers(1, 25)).tolist() for _ in range(count)]
        arrays |= {f"x_{part}": to_object_array(reviews), f"y_{part}": random.integers(0, 2, count)}
    return arrays


@pytest.fixture
def reviews(root):
    """A function that writes params.yaml and data/raw/reviews/any.npz; by default all is well."""

    def write(arrays=None, content=None, synthetic=False, sha256="right", vocabulary=VOCABULARY, **settings):
        raw = Path("data/raw/reviews")
        raw.mkdir(parents=True, exist_ok=True)
        if content is None:
            np.savez(raw / "any.npz", **(make_arrays() if arrays is None else arrays))
        else:
            (raw / "any.npz").write_bytes(content)
        (raw / "source.json").write_text(json.dumps({"synthetic": synthetic, "files": [{"name": "any.npz"}]}))
        if sha256 == "right":  # and in capitals, as some programs print it
            sha256 = hashlib.sha256((raw / "any.npz").read_bytes()).hexdigest().upper()
        section = {"words": 40, "length": 12, "reverse": False, "val": 0.2} | settings
        sections = {"tokens": {"any": section}, "reviews": {"sha256": sha256, "vocabulary": vocabulary}}
        Path("params.yaml").write_text(json.dumps(sections))

    return write


def encode_as_keras(review, words):
    """A review as Keras' imdb.load_data gives it out: begun with 1, moved up by 3, 2 for rare words."""
    return [token if token < words else 2 for token in [1, *(rank + 3 for rank in review)]]


@settings(max_examples=60, deadline=None)
@given(st.lists(ranks, min_size=1, max_size=6), st.integers(4, 60), st.integers(1, 35), st.booleans())
def test_pad_equals_keras(texts, words, length, reverse):
    expected = [encode_as_keras(review, words)[:: -1 if reverse else 1] for review in texts]
    result = stage.pad_reviews(
        to_object_array([np.array(review, np.int64) for review in texts]), words, length, reverse
    )
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result, pad_sequences(expected, maxlen=length))


def test_a_reversed_long_review_keeps_its_beginning():
    review = to_object_array([np.arange(1, 8)])
    assert stage.pad_reviews(review, words=100, length=4, reverse=False).tolist() == [[7, 8, 9, 10]]
    assert stage.pad_reviews(review, words=100, length=4, reverse=True).tolist() == [[6, 5, 4, 1]]
    assert stage.pad_reviews(review, words=100, length=10, reverse=True).tolist() == [
        [0, 0, 10, 9, 8, 7, 6, 5, 4, 1]
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_input_set_equals_keras_loader(reviews, reverse, monkeypatch, capsys):
    reviews(reverse=reverse)
    stage.tokens("any")
    assert capsys.readouterr().out == "any: train 16, val 4, test 7\n"
    result = load_input_set("data/inputs/any")
    monkeypatch.setattr("keras.src.datasets.imdb.get_file", lambda *_, **__: "data/raw/reviews/any.npz")
    (x_train, y_train), (x_test, y_test) = imdb.load_data(num_words=40)
    turn = [[review[:: -1 if reverse else 1] for review in part] for part in (x_train, x_test)]
    padded = [pad_sequences(part, maxlen=12) for part in turn]
    np.testing.assert_array_equal(result.train.windows[:], padded[0][:16])
    np.testing.assert_array_equal(result.val.windows[:], padded[0][16:])
    np.testing.assert_array_equal(result.test.windows[:], padded[1])
    assert np.concatenate([result.train.targets, result.val.targets]).tolist() == y_train.tolist()
    assert result.test.targets.tolist() == y_test.tolist()
    assert result.rows.dtype == np.int16 and result.rows.shape == (27 * 12,) and result.shape == (12,)
    assert (result.meta.words, result.meta.target, result.meta.unit) == (40, None, None)
    assert np.isnat(result.test.times).all()


def test_read_keeps_keras_order(reviews):
    arrays = make_arrays()
    reviews(arrays)
    path = Path("data/raw/reviews/any.npz")
    x_train, y_train, x_test, y_test = stage.read_reviews(path.read_bytes(), path, VOCABULARY)
    random = np.random.RandomState(113)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        order = np.arange(len(x))
        random.shuffle(order)
        assert [review.tolist() for review in x] == [arrays[f"x_{part}"][i] for i in order]
        assert y.tolist() == arrays[f"y_{part}"][order].tolist()


@pytest.mark.parametrize(("count", "val", "held_out"), [(20, 0.2, 4), (7, 0.5, 4), (3, 0.01, 1), (10, 0.8, 9)])
def test_the_last_training_reviews_are_held_out(reviews, count, val, held_out):
    reviews(make_arrays(train=count), val=val)
    stage.tokens("any")
    result = load_input_set("data/inputs/any")
    assert (len(result.train.windows), len(result.val.windows)) == (count - held_out, held_out)


def test_reviews_of_one_length_and_empty_ones(reviews):
    same = make_arrays() | {"x_test": np.arange(1, 22).reshape(7, 3).astype(object)}
    reviews(same)
    stage.tokens("any")
    assert load_input_set("data/inputs/any").test.windows.shape == (7, 12)
    reviews(make_arrays() | {"x_test": to_object_array([[], [1], [], [2], [], [3], []])})
    stage.tokens("any")
    assert sorted(load_input_set("data/inputs/any").test.windows[:].max(axis=1).tolist()) == [1, 1, 1, 1, 4, 5, 6]


def assert_refused(*expected):
    """Assert that the stage refuses with every text of `expected` and writes nothing."""
    with pytest.raises(UserError) as raised:
        stage.tokens("any")
    for text in expected:
        assert text in str(raised.value), str(raised.value)
    assert not Path("data/inputs").exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sha256": "0" * 64}, ["data/raw/reviews/any.npz: expected the sha256 " + "0" * 64, "reviews.sha256"]),
        (
            {"sha256": None},
            ["params.yaml: reviews.sha256: ", "found null", "can run code", "set reviews.sha256 to "],
        ),
        ({"synthetic": True}, ["any.npz: expected the sample", sample.SHA256, "dvc repro -f download@reviews"]),
        ({"synthetic": True, "sha256": None}, ["any.npz: expected the sample", sample.SHA256]),
    ],
)
def test_nothing_is_unpickled_that_was_not_hashed_against_a_known_value(reviews, monkeypatch, settings, expected):
    monkeypatch.setattr(np, "load", None)
    reviews(**settings)
    assert_refused(hashlib.sha256(Path("data/raw/reviews/any.npz").read_bytes()).hexdigest(), *expected)


def test_what_was_hashed_is_what_is_unpickled(reviews, monkeypatch):
    """A file that is replaced after it was hashed does not get in."""
    reviews()
    trusted = stage.read_trusted

    def replaced(path, *arguments):
        content = trusted(path, *arguments)
        path.write_bytes(b"another file")
        return content

    monkeypatch.setattr(stage, "read_trusted", replaced)
    stage.tokens("any")


def test_the_sample_needs_no_hash_in_params_yaml(reviews, root):
    sample.write_sample(root)
    reviews(content=(root / "sample.npz").read_bytes(), synthetic=True, sha256=None, vocabulary=sample.WORDS)
    stage.tokens("any")
    assert len(load_input_set("data/inputs/any").test.windows) == sample.REVIEWS


def test_a_file_that_is_no_archive_or_lacks_an_array(reviews, root):
    np.save(root / "one.npy", np.arange(3))
    array = (root / "one.npy").read_bytes()
    for content in (b"", b"junk" * 99, b"PK\x03\x04" + bytes(99), b"\x80\x04N.", b"<html></html>", array):
        reviews(content=content)
        assert_refused("any.npz", "cannot be read as an .npz archive")
    for key in ("x_train", "y_test"):
        reviews({name: array for name, array in make_arrays().items() if name != key})
        assert_refused("any.npz", f"no array {key}", "layout of Keras' imdb.npz")


def spoil_review(place, value):
    """A list of seven reviews, with `value` at index `place`."""
    return to_object_array([[1, 2], [3], [4, 5], [6], [7, 8], [9], [10]][:place] + [value] + [[11]] * (6 - place))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"y_test": np.array([0, 1])}, ["x_test has 7 reviews and y_test 2 labels"]),
        ({"x_test": to_object_array([]), "y_test": np.array([], int)}, ["x_test has 0 reviews"]),
        ({"y_test": np.array([0, 1, 0, 2, 0, 0, 1])}, ["y_test[3] is 2", "must be 0 or 1"]),
        ({"y_test": np.array([0, 1, 0, 1, 0, 0, np.nan])}, ["y_test[6] is nan"]),
        ({"y_test": np.array(list("0100101"))}, ["y_test[0]"]),
        ({"y_test": np.zeros((7, 1), int)}, ["y_test"]),
        ({"x_test": np.array(5)}, ["x_test"]),
        ({"y_test": np.array(1)}, ["y_test"]),
        ({"x_test": spoil_review(2, [1, 51])}, ["x_test[2] has the word rank 51", "1 to 50", "reviews.vocabulary"]),
        ({"x_test": spoil_review(0, [2, 0, 3])}, ["x_test[0] has the word rank 0", "1 to 50"]),
        ({"x_test": spoil_review(6, [-4])}, ["x_test[6] has the word rank -4"]),
        ({"x_test": spoil_review(1, [1, [2, 3]])}, ["x_test[1]"]),
        ({"x_test": spoil_review(1, [[1, 2], [3, 4]])}, ["x_test[1]"]),
        ({"x_test": spoil_review(1, 12)}, ["x_test[1]"]),
        ({"x_test": spoil_review(1, [10**30])}, ["x_test[1]"]),
        *(
            ({"x_test": spoil_review(1, value)}, ["x_test[1] is not a list of word ranks"])
            for value in (None, "a film", "12", [1.5], [np.nan])
        ),
    ],
)
def test_bad_arrays(reviews, change, expected):
    reviews(make_arrays() | change)
    assert_refused("any.npz", *expected)


def test_a_validation_share_that_leaves_no_training_review_is_refused(reviews):
    reviews(val=0.99)
    assert_refused("params.yaml: ", "tokens.any.val: 0.99 leaves none")


def test_missing_files(reviews):
    reviews()
    Path("data/raw/reviews/any.npz").unlink()
    assert_refused("data/raw/reviews/any.npz: not found")
    Path("data/raw/reviews/source.json").unlink()
    assert_refused("data/raw/reviews/source.json: not found")
