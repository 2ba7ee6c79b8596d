"""A faster time loop for training `keras.layers.GRU` on a CPU, with the same weights and the same mathematics.

Keras leaves the gradient of its loop to automatic differentiation, which stores about twenty arrays per time step
and reads them back. This module writes out the backward pass, stores only the states (and the gates if there is
recurrent dropout), and has XLA compile both loops, which at least halves the time (benchmarks/README.md). Outputs,
gradients and dropout masks equal those of Keras up to rounding; tests/test_fast_gru.py compares them. It is for
TensorFlow on a CPU: other backends keep Keras' loop, and so do GPUs, where cuDNN is faster.

The cell with reset_after=True (Cho et al., 2014, in the form of cuDNN; bias b = (bx, bh)):
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

# The derivative of each activation, as a function of the activation's value.
DERIVATIVES: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda y: 1 - y * y,
    "relu": lambda y: keras.ops.cast(y > 0, y.dtype),
}


def use_fast_loop(model: keras.Model) -> None:
    """Replace the time loop of every GRU of `model` that supports it.

    The layers remain `keras.layers.GRU`, and are saved and loaded as such.
    """
    for layer in model.layers:
        directions = (
            (layer.forward_layer, layer.backward_layer) if isinstance(layer, layers.Bidirectional) else (layer,)
        )
        for gru in directions:
            if isinstance(gru, layers.GRU) and supports_fast_loop(gru):
                gru.inner_loop = types.MethodType(inner_loop, gru)


def supports_fast_loop(gru: layers.GRU) -> bool:
    """Return whether `run_loop` computes the same as Keras does for `gru`."""
    return (
        keras.backend.backend() == "tensorflow"
        and gru.reset_after
        and gru.use_bias
        and gru.activation.__name__ in DERIVATIVES
        and gru.recurrent_activation is keras.activations.sigmoid
        and max(gru.dropout, gru.recurrent_dropout) < 1
    )


def inner_loop(self: layers.GRU, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
    """Replace `keras.layers.GRU.inner_loop`.

    Input: sequences (batch, time, features) and the initial state (batch, units).
    Returns: the last output (batch, units), all outputs (batch, time, units) or, without `return_sequences`, the
    last one (batch, 1, units), and a list with the last state.
    """
    if mask is not None or sequences.shape[1] is None:
        return type(self).inner_loop(self, sequences, initial_state, mask, training)
    import tensorflow as tf

    cell, x = self.cell, tf.transpose(sequences, (1, 0, 2))
    state = tf.nest.flatten(initial_state)[0]
    x_masks = cell.get_dropout_mask(sequences[:, 0]) if training and cell.dropout else None
    h_masks = cell.get_recurrent_dropout_mask(state) if training and cell.recurrent_dropout else None
    if x_masks is not None and not isinstance(x_masks, list):  # the gates share one mask
        x, x_masks = x * x_masks, None
    weights = [tf.convert_to_tensor(weight) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    options = {"activation": cell.activation, "go_backwards": self.go_backwards}
    loop = partial(run_loop, **options, return_sequences=self.return_sequences)
    compiled_loop = tf.function(loop, jit_compile=True)  # the model as a whole may not be compiled
    states = compiled_loop(x, state, *weights, x_masks, h_masks)
    if self.return_sequences:
        return states[-1], tf.transpose(states, (1, 0, 2)), [states[-1]]
    return states, states[:, None], [states]


def run_loop(
    x: Any,
    state: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    x_masks: list | None,
    h_masks: list | None,
    activation: Callable[[Any], Any],
    go_backwards: bool,
    return_sequences: bool,
) -> Any:
    """Run the cell over `x` (time, batch, features), beginning with `state` (batch, units).

    Returns the last state (batch, units), or with `return_sequences` all states (time, batch, units) in the order
    of computation. `x_masks` and `h_masks` hold one dropout mask for each of the three gates, applied to x and to
    the state.
    """
    import tensorflow as tf

    time, derivative = x.shape[0], DERIVATIVES[activation.__name__]

    def get_time_index(step: Any) -> Any:
        return time - 1 - step if go_backwards else step

    def make_array(size: int, width: int) -> Any:
        return tf.TensorArray(x.dtype, size, element_shape=(x.shape[1], width))

    def project(v: Any, weights: list, masks: list | None) -> list:
        if masks is None:
            return tf.split(v @ weights[0], 3, 1)
        return [(v * mask) @ weight for mask, weight in zip(masks, weights, strict=True)]

    def project_gradient(v: Any, transposed: list, masks: list | None, gates: tuple) -> tuple[Any, list]:
        """Return the gradients of `project` with respect to v and the weights, given those of the gates."""
        if masks is None:
            gradient = tf.concat(gates, 1)
            return gradient @ transposed[0], [tf.matmul(v, gradient, transpose_a=True)]
        by_v = [(g @ w) * mask for g, w, mask in zip(gates, transposed, masks, strict=True)]
        by_weights = [tf.matmul(v * mask, g, transpose_a=True) for mask, g in zip(masks, gates, strict=True)]
        return by_v[0] + by_v[1] + by_v[2], by_weights

    @tf.custom_gradient
    def run(x: Any, state: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        # The weights are split and transposed outside the loops, because XLA would leave that inside.
        w = tf.split(kernel, 1 if x_masks is None else 3, 1)
        u = tf.split(recurrent_kernel, 1 if h_masks is None else 3, 1)
        bx, bh = (tf.split(vector, 3) for vector in tf.unstack(bias))

        def compute_gates(xt: Any, h: Any) -> tuple:
            xz, xr, xc = project(xt, w, x_masks)
            hz, hr, hc = project(h, u, h_masks)
            hc = hc + bh[2]
            r = tf.sigmoid(xr + hr + bx[1] + bh[1])
            return tf.sigmoid(xz + hz + bx[0] + bh[0]), r, hc, activation(xc + bx[2] + r * hc)

        def step_forward(step: Any, h: Any, states: Any, gate_arrays: list) -> tuple:
            z, _, _, c = gates = compute_gates(x[get_time_index(step)], h)
            h = c + z * (h - c)
            gate_arrays = [
                array.write(step, gate) for array, gate in zip(gate_arrays, gates, strict=bool(gate_arrays))
            ]
            return step + 1, h, states.write(step + 1, h), gate_arrays

        units = recurrent_kernel.shape[0]
        # With masks, a gate takes a matrix product of its own, so that storing the gates is faster than recomputing
        # them. Without masks it is slower.
        gate_arrays = [] if h_masks is None else [make_array(time, units) for _ in range(4)]
        variables = (0, state, make_array(time + 1, units).write(0, state), gate_arrays)
        _, last, states, gate_arrays = tf.while_loop(lambda step, *_: step < time, step_forward, variables)
        states, stored_gates = states.stack(), [array.stack() for array in gate_arrays]

        def compute_gradient(upstream: Any) -> tuple:
            w_t, u_t = ([tf.transpose(weight) for weight in weights] for weights in (w, u))

            def step_backward(step: Any, dh: Any, dx: Any, dw: list, du: list, db: list, dbc: Any) -> tuple:
                xt, h = x[get_time_index(step)], states[step]
                z, r, hc, c = (gate[step] for gate in stored_gates) if stored_gates else compute_gates(xt, h)
                if return_sequences:
                    dh = dh + upstream[step]
                dc = dh * (1 - z) * derivative(c)
                dz = dh * (h - c) * z * (1 - z)
                dr = dc * hc * r * (1 - r)
                by_x, by_w = project_gradient(xt, w_t, x_masks, (dz, dr, dc))
                by_h, by_u = project_gradient(h, u_t, h_masks, (dz, dr, dc * r))
                sums = ((dw, by_w), (du, by_u), (db, (dz, dr, dc)))
                dw, du, db = ([total + term for total, term in zip(*pair, strict=True)] for pair in sums)
                return step - 1, dh * z + by_h, dx.write(get_time_index(step), by_x), dw, du, db, dbc + dc * r

            zero = tf.zeros_like(state)
            variables = (
                time - 1,
                zero if return_sequences else upstream,
                make_array(time, kernel.shape[0]),
                [tf.zeros_like(weight) for weight in w],
                [tf.zeros_like(weight) for weight in u],
                [zero, zero, zero],
                zero,
            )
            _, dh, dx, dw, du, db, dbc = tf.while_loop(lambda step, *_: step >= 0, step_backward, variables)
            z, r, c, hc = (tf.reduce_sum(total, 0) for total in (*db, dbc))
            dbias = tf.stack([tf.concat([z, r, c], 0), tf.concat([z, r, hc], 0)])
            return dx.stack(), dh, tf.concat(dw, 1), tf.concat(du, 1), dbias

        return (states[1:] if return_sequences else last), compute_gradient

    return run(x, state, kernel, recurrent_kernel, bias)
