"""Export a saved Keras model to ONNX, a file that onnxruntime runs without TensorFlow.

The conversion needs TensorFlow on a CPU as Keras' backend. Where Keras runs on something else, `export_model` runs
this module as a program: `python -m stages.lib.nn.exporting MODEL.keras MODEL.onnx`. In either case, the model is
loaded as Keras saved it, without the loops of fast_gru.py.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import unittest.mock
import warnings
from pathlib import Path

import numpy as np
import onnx

from stages.lib.errors import UserError
from stages.lib.nn.environment import get_device, keras, silence_stderr

CPU = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}  # environment of the process


def export_model(source: Path, target: Path) -> str:
    """Export the Keras model `source` to the ONNX file `target`, and return the SHA-256 of that.

    Raises UserError if tf2onnx cannot convert the model.
    """
    reason = ""
    if keras.backend.backend() == "tensorflow" and get_device().startswith("cpu"):
        try:
            convert_model(source, target)
        except Exception as error:  # of any kind, from three packages
            reason = str(error) or type(error).__name__
    else:
        command = [sys.executable, "-m", __name__, str(source), str(target)]
        done = subprocess.run(
            command, env=os.environ | CPU, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            reason = done.stderr.strip() or f"exit status {done.returncode}"
    if reason:
        reason = reason.splitlines()[-1][:200]
        raise UserError(f"{target.name}: this model cannot be converted to ONNX ({reason}); use other layers")
    return hashlib.sha256(target.read_bytes()).hexdigest()


def convert_model(source: Path, target: Path) -> None:
    """Convert the Keras model `source` to the ONNX file `target`, whose bytes depend on the model alone.

    Its inputs have the names of the Keras inputs; its output is called `quantiles`. The batch size is free.
    """
    sys.setrecursionlimit(100_000)  # `order_nodes` descends as deep as the model
    model = keras.models.load_model(source, compile=False)
    hold_statistics_as_arrays(model)
    converted = convert_with_tf2onnx(model)
    graph = converted.graph
    order_nodes(graph)
    (output,) = graph.output
    for value in (*graph.input, output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    rename_values(graph, {value.name: value.name for value in graph.input} | {output.name: "quantiles"})
    graph.name = model.name
    onnx.save(converted, target)


def convert_with_tf2onnx(model: keras.Model) -> onnx.ModelProto:
    """Convert `model` in half the time of `model.export`, which traces the model five times."""
    import tensorflow as tf
    from tf2onnx.convert import from_function

    specs = [tf.TensorSpec(value.shape, value.dtype, value.name) for value in model.inputs]
    function = tf.function(lambda *values: model(keras.tree.pack_sequence_as(model.input, values)), autograph=False)
    with silence_stderr(), warnings.catch_warnings(action="ignore"):  # of tf2onnx about NumPy
        # First without the copy of the graph that tf2onnx makes before each optimizer. With the copy, it can go on
        # after an optimizer has failed.
        with contextlib.suppress(Exception), unittest.mock.patch.dict(os.environ, TF2ONNX_CATCH_ERRORS="false"):
            return from_function(function, specs)[0]
        return from_function(function, specs)[0]


def hold_statistics_as_arrays(model: keras.Model) -> None:
    """Replace the tensors in the Normalization layers of `model` by arrays; tf2onnx takes tensors for inputs."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            hold_statistics_as_arrays(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def list_bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs inside `node`, such as the body of a loop."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def order_nodes(graph: onnx.GraphProto) -> list[str]:
    """Order the nodes and constants of `graph` by when its outputs need them, and drop what they do not need.

    tf2onnx orders them by memory addresses, which also decide whether a node reads a value or its copy. Returns the
    names that `graph`, if it is the body of a loop, reads from the graph around it.
    """
    bypass_copies(graph)
    producers = {name: node for node in graph.node for name in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    visited = {value.name for value in graph.input} | {""}  # "": an optional input that is left out
    nodes, leaves = list[onnx.NodeProto](), list[str]()

    def visit(name: str) -> None:
        if name in visited:
            return
        visited.add(name)
        if name not in producers:
            leaves.append(name)
            return
        node = producers[name]
        visited.update(node.output)
        for read in (*node.input, *(read for body in list_bodies(node) for read in order_nodes(body))):
            visit(read)
        nodes.append(node)

    for value in graph.output:
        visit(value.name)
    ordered = onnx.GraphProto(node=nodes, initializer=[constants[name] for name in leaves if name in constants])
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.MergeFrom(ordered)
    return [name for name in leaves if name not in constants]


def bypass_copies(graph: onnx.GraphProto) -> None:
    """Make the nodes and outputs of `graph` read values instead of their copies.

    No value can be two outputs; the second one becomes a copy again.
    """
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}

    def find_source(name: str) -> str:
        while name in sources:
            name = sources[name]
        return name

    for node in graph.node:
        node.input[:] = map(find_source, node.input)
    free = {name for node in graph.node for name in node.output} - sources.keys()
    for value in graph.output:
        source = find_source(value.name)
        if source in free:
            free.remove(source)
            value.name = source
        else:
            value.name = f"{source}/copy_{len(graph.node)}"
            graph.node.append(onnx.helper.make_node("Identity", [source], [value.name]))


def rename_values(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Number the values of `graph` in order, as the names of tf2onnx differ from one conversion to the next.

    `names` maps old names to new ones and receives those that it lacks.
    """

    def rename(name: str) -> str:
        return names.setdefault(name, f"value_{len(names)}") if name else ""

    graph.name, graph.doc_string = "graph", ""  # onnxruntime requires a name
    for value in (*graph.input, *graph.initializer):
        value.name = rename(value.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:], node.output[:] = map(rename, node.input), map(rename, node.output)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                attribute.t.name = ""
        for body in list_bodies(node):
            rename_values(body, names)
    for value in graph.output:
        value.name = rename(value.name)
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param not in ("", "batch"):  # one without a name has a number
                size.dim_param = rename(size.dim_param)


if __name__ == "__main__":
    convert_model(Path(sys.argv[1]), Path(sys.argv[2]))
