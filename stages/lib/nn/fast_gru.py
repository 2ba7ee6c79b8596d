"""A faster time loop for training `keras.layers.GRU` on a CPU: same weights, same mathematics.

Keras' own loop leaves the gradient to automatic differentiation, which stores some twenty arrays per step and
reads them back. Here the backward pass is written out (below); only the states are stored, with recurrent dropout
the gates too; and XLA compiles both loops. It takes half the time or less (benchmarks/README.md). Outputs,
gradients and dropout masks equal Keras' up to rounding; tests/test_fast_gru.py compares them. It replaces the loop
and the gradient of TensorFlow; on other backends, and on a GPU, where cuDNN is faster, Keras' loop stays.

The cell, with reset_after=True (Cho et al., 2014, in cuDNN's form; bias b = (bx, bh)):
    z = sigmoid(x Wz + bxz + h Uz + bhz)                update gate
    r = sigmoid(x Wr + bxr + h Ur + bhr)                reset gate
    c = activation(x Wc + bxc + r * (h Uc + bhc))       candidate
    h' = z * h + (1 - z) * c
"""

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import layers

# The derivative of an activation, as a function of its value.
SLOPE: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda y: 1 - y * y,
    "relu": lambda y: keras.ops.cast(y > 0, y.dtype),
}


def use_fast_loop(model: keras.Model) -> None:
    """Give every GRU of `model` in the usual form the faster loop; nothing else about it changes.

    The layer stays a `keras.layers.GRU`, and saves and loads as one.
    """
    for layer in model.layers:
        both = (layer.forward_layer, layer.backward_layer) if isinstance(layer, layers.Bidirectional) else (layer,)
        for gru in both:
            if isinstance(gru, layers.GRU) and supports_fast_loop(gru):
                gru.inner_loop = types.MethodType(inner_loop, gru)


def supports_fast_loop(gru: layers.GRU) -> bool:
    """Whether the loop below computes what `gru` computes."""
    return (
        keras.backend.backend() == "tensorflow"
        and gru.reset_after
        and gru.use_bias
        and gru.activation.__name__ in SLOPE
        and gru.recurrent_activation is keras.activations.sigmoid
        and max(gru.dropout, gru.recurrent_dropout) < 1
    )


def inner_loop(self: layers.GRU, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
    """What Keras calls to run the layer: (batch, time, features) -> last output, all outputs, [last state]."""
    if mask is not None or sequences.shape[1] is None:
        return type(self).inner_loop(self, sequences, initial_state, mask, training)
    import tensorflow as tf

    cell, x = self.cell, tf.transpose(sequences, (1, 0, 2))
    first = tf.nest.flatten(initial_state)[0]
    x_masks = cell.get_dropout_mask(sequences[:, 0]) if training and cell.dropout else None
    h_masks = cell.get_recurrent_dropout_mask(first) if training and cell.recurrent_dropout else None
    if x_masks is not None and not isinstance(x_masks, list):  # one mask for all gates
        x, x_masks = x * x_masks, None
    weights = [tf.convert_to_tensor(weight) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    options = {"activation": cell.activation, "reverse": self.go_backwards, "sequences": self.return_sequences}
    compiled = tf.function(partial(run_loop, **options), jit_compile=True)  # in case the model as a whole is not
    states = compiled(x, first, *weights, x_masks, h_masks)
    if self.return_sequences:
        return states[-1], tf.transpose(states, (1, 0, 2)), [states[-1]]
    return states, states[:, None], [states]


def run_loop(
    x: Any,
    first: Any,
    kernel: Any,
    recurrent: Any,
    bias: Any,
    x_masks: list | None,
    h_masks: list | None,
    activation: Callable[[Any], Any],
    reverse: bool,
    sequences: bool,
) -> Any:
    """Run the cell over x (time, batch, features) from the state `first` (batch, units).

    Returns the last state (batch, units), or with `sequences` all of them (time, batch, units) in the order
    of computation. Masks come in threes: one for each gate's view of x or of the state.
    """
    import tensorflow as tf

    time, slope = x.shape[0], SLOPE[activation.__name__]

    def at(step: Any) -> Any:
        return time - 1 - step if reverse else step

    def array(size: int, width: int) -> Any:
        return tf.TensorArray(x.dtype, size, element_shape=(x.shape[1], width))

    def project(v: Any, weights: list, masks: list | None) -> list:
        if masks is None:
            return tf.split(v @ weights[0], 3, 1)
        return [(v * mask) @ weight for mask, weight in zip(masks, weights, strict=True)]

    def project_gradient(v: Any, transposed: list, masks: list | None, gates: tuple) -> tuple[Any, list]:
        """The gradients of `project` by v and by the weights, given those of the gates."""
        if masks is None:
            joined = tf.concat(gates, 1)
            return joined @ transposed[0], [tf.matmul(v, joined, transpose_a=True)]
        by_v = [(g @ w) * mask for g, w, mask in zip(gates, transposed, masks, strict=True)]
        by_weights = [tf.matmul(v * mask, g, transpose_a=True) for mask, g in zip(masks, gates, strict=True)]
        return by_v[0] + by_v[1] + by_v[2], by_weights

    @tf.custom_gradient
    def run(x: Any, first: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        # Split and transposed once, here: XLA would leave that in the loops.
        w = tf.split(kernel, 1 if x_masks is None else 3, 1)
        u = tf.split(recurrent, 1 if h_masks is None else 3, 1)
        bx, bh = (tf.split(part, 3) for part in tf.unstack(bias))

        def gates(xt: Any, h: Any) -> tuple:
            xz, xr, xc = project(xt, w, x_masks)
            hz, hr, hc = project(h, u, h_masks)
            hc = hc + bh[2]
            r = tf.sigmoid(xr + hr + bx[1] + bh[1])
            return tf.sigmoid(xz + hz + bx[0] + bh[0]), r, hc, activation(xc + bx[2] + r * hc)

        def forward(step: Any, h: Any, states: Any, kept: list) -> tuple:
            z, _, _, c = found = gates(x[at(step)], h)
            h = c + z * (h - c)
            kept = [values.write(step, value) for values, value in zip(kept, found, strict=bool(kept))]
            return step + 1, h, states.write(step + 1, h), kept

        units = recurrent.shape[0]
        # With masks each gate is a product of its own, and storing gates beats recomputing them; not so without.
        kept = [] if h_masks is None else [array(time, units) for _ in range(4)]
        begin = (0, first, array(time + 1, units).write(0, first), kept)
        _, last, states, kept = tf.while_loop(lambda step, *_: step < time, forward, begin)
        states, kept = states.stack(), [values.stack() for values in kept]

        def gradient(upstream: Any) -> tuple:
            w_t, u_t = ([tf.transpose(weight) for weight in weights] for weights in (w, u))

            def backward(step: Any, dh: Any, dx: Any, dw: list, du: list, db: list, dbc: Any) -> tuple:
                xt, h = x[at(step)], states[step]
                z, r, hc, c = (values[step] for values in kept) if kept else gates(xt, h)
                if sequences:
                    dh = dh + upstream[step]
                dc = dh * (1 - z) * slope(c)
                dz = dh * (h - c) * z * (1 - z)
                dr = dc * hc * r * (1 - r)
                by_x, by_w = project_gradient(xt, w_t, x_masks, (dz, dr, dc))
                by_h, by_u = project_gradient(h, u_t, h_masks, (dz, dr, dc * r))
                sums = ((dw, by_w), (du, by_u), (db, (dz, dr, dc)))
                dw, du, db = ([total + part for total, part in zip(*pair, strict=True)] for pair in sums)
                return step - 1, dh * z + by_h, dx.write(at(step), by_x), dw, du, db, dbc + dc * r

            zero = tf.zeros_like(first)
            begin = (
                time - 1,
                zero if sequences else upstream,
                array(time, kernel.shape[0]),
                [tf.zeros_like(weight) for weight in w],
                [tf.zeros_like(weight) for weight in u],
                [zero, zero, zero],
                zero,
            )
            _, dh, dx, dw, du, db, dbc = tf.while_loop(lambda step, *_: step >= 0, backward, begin)
            z, r, c, hc = (tf.reduce_sum(part, 0) for part in (*db, dbc))
            dbias = tf.stack([tf.concat([z, r, c], 0), tf.concat([z, r, hc], 0)])
            return dx.stack(), dh, tf.concat(dw, 1), tf.concat(du, 1), dbias

        return (states[1:] if sequences else last), gradient

    return run(x, first, kernel, recurrent, bias)
