"""The faster loop against Keras' own, with the same weights, seeds and masks."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from stages.lib.nn.fast_gru import supports_fast_loop, use_fast_loop

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="replaces TensorFlow's loop")

CASES = {
    "dropout": lambda: [layers.GRU(5, dropout=0.3)],
    "recurrent dropout": lambda: [layers.GRU(5, dropout=0.2, recurrent_dropout=0.4)],
    "bidirectional": lambda: [layers.Bidirectional(layers.GRU(5, return_sequences=True)), layers.GRU(3)],
    "stacked": lambda: [
        layers.GRU(4, dropout=0.1, recurrent_dropout=0.5, return_sequences=True),
        layers.GRU(6, activation="relu", dropout=0.1, recurrent_dropout=0.5),
    ],
}
# Each takes seconds to compile: a case without dropout is the same outside of training.
CHECKED = [
    ("dropout", True, False),
    ("recurrent dropout", True, False),
    ("recurrent dropout", False, False),
    ("bidirectional", True, False),
    pytest.param("stacked", True, False, marks=pytest.mark.slow),
    pytest.param("stacked", True, True, marks=pytest.mark.slow),  # XLA draws other masks
]


def compute_outputs_and_gradients(build, fast: bool, training: bool, jit: bool) -> list[np.ndarray]:
    """Outputs (7, 1) of a small model and the gradients of their squared sum by input and weights."""
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((11, 4)), *build(), layers.Dense(1)])
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:  # biases too, which begin as zeros
        weight.assign(random.normal(0, 0.5, weight.shape))
    if fast:
        use_fast_loop(model)

    @tf.function(jit_compile=jit)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=training)
            loss = ops.sum(y * y)
        weights = [weight.value for weight in model.trainable_weights]
        return [y, *tape.gradient(loss, [x, *weights])]

    x = tf.constant(random.normal(size=(7, 11, 4)).astype("float32"))
    return [np.asarray(value) for value in run(x)]


@tensorflow_only
@pytest.mark.parametrize(("case", "training", "jit"), CHECKED)
def test_equals_keras(case, training, jit):
    slow = compute_outputs_and_gradients(CASES[case], fast=False, training=training, jit=jit)
    fast = compute_outputs_and_gradients(CASES[case], fast=True, training=training, jit=jit)
    for expected, result in zip(slow, fast, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@tensorflow_only
@pytest.mark.parametrize("options", [{"reset_after": False}, {"use_bias": False}, {"activation": "elu"}])
def test_other_forms_keep_keras_loop(options):
    assert not supports_fast_loop(layers.GRU(3, **options))
    assert supports_fast_loop(layers.GRU(3))


@tensorflow_only
def test_saves_and_loads_as_a_plain_gru(tmp_path):
    model = keras.Sequential([keras.Input((11, 4)), layers.GRU(5), layers.Dense(1)])
    use_fast_loop(model)
    x = np.random.default_rng(0).normal(size=(3, 11, 4)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is layers.GRU
    np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(model(x)), rtol=1e-5)
