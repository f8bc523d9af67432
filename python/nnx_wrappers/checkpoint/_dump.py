"""The shape of Linen's tree of an NNX model, where no tree is given to follow."""

import typing as tp
from collections.abc import Mapping

import jax
from flax import nnx

from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint import _pairs, _rules, _sides
from nnx_wrappers.checkpoint._match import is_model
from nnx_wrappers.checkpoint._names import ANY, EMA, Name, joined

# Flax 0.10 lacks some of these.
_NAMES = ("LSTMCell", "SimpleCell", "WeightNorm", "SpectralNorm")
LAYERS = tuple(getattr(nnx, name) for name in _NAMES if hasattr(nnx, name))
Abstract = jax.ShapeDtypeStruct


def linen_tree(
    model: tp.Any, optimizer: tp.Any, live: _sides.Live, rules: _rules.Rules
) -> dict[str, tp.Any]:
    """Collections, and with an optimizer its state and step, of abstract arrays."""
    trees = _collections(model, live, rules)
    made: dict[str, tp.Any] = {}
    for collection, tree in trees.items():
        leaves = {path: Abstract(value.shape, value.dtype) for path, value in tree.items()}
        made[collection] = nested(leaves)
    parameters = trees.get("params", {})
    if any(name.role == EMA for name in live.side.leaves):
        made[rules.ema or "ema_params"] = made.get("params", {})
    if optimizer is not None:
        made["opt_state"] = _optimizer_state(optimizer, parameters)
        made["step"] = Abstract((), optimizer.step.get_value().dtype)
    return made


def _collections(
    model: tp.Any, live: _sides.Live, rules: _rules.Rules
) -> dict[str, dict[str, ex.Expression]]:
    """The leaves of the model by collection and by their paths in Linen."""
    layers = {joined(map(str, path)): node for path, node in nnx.iter_graph(model)}
    trees: dict[str, dict[str, ex.Expression]] = {}
    for leaf in live.side.leaves.values():
        if is_model(leaf.name):
            source = ex.Source(leaf.shape, leaf.dtype, leaf.name)
            of_layer = _of_layer(leaf.name.path, source, layers)
            trees.setdefault(_collection(leaf.name, of_layer), {}).update(of_layer)
    inverse = rules.inverse()
    return {
        role: {
            listed(path): value for path, value in _rules.apply(inverse, tree, role, set()).items()
        }
        for role, tree in trees.items()
    }


def _collection(name: Name, of_layer: Mapping[str, ex.Expression]) -> str:
    """The collection; plain arrays have the one that ToLinen gives them, but for a WeightNorm."""
    if name.role != ANY:
        return name.role
    is_scale = any(_pairs.LINEN_NORM.fullmatch(path) for path in of_layer)
    return "params" if is_scale else "ArrayImpl"


def _of_layer(
    path: str, source: ex.Expression, layers: Mapping[str, tp.Any]
) -> dict[str, ex.Expression]:
    """A parameter under Linen's names, by the class of the layer that it belongs to."""
    parts = path.split("/")
    for i in range(len(parts)):
        layer, name = layers.get(joined(parts[:i])), joined(parts[i:])
        prefix = joined((*parts[:i], ""))
        if isinstance(layer, nnx.OptimizedLSTMCell):
            side, end = name.removeprefix("dense_").split("/")
            size = source.shape[-1] // 4
            pieces = ex.split(source, -1, [size] * 4)
            names = [f"{prefix}{side}{gate}/{end}" for gate in _pairs.LSTM_GATES]
            return dict(zip(names, pieces, strict=True))
        if isinstance(layer, LAYERS):
            return {prefix + _pairs.linen_name(name, type(layer).__name__): source}
    return {path: source}


def listed(path: str) -> str:
    """A path in which the number of a layer is part of its name, as Linen's `setup` writes it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part.isdecimal() and parts:
            parts[-1] += f"_{part}"
        else:
            parts.append(part)
    return joined(parts)


def nested(leaves: Mapping[str, tp.Any]) -> dict[str, tp.Any]:
    """Nested dicts of leaves by their paths.

    What Linen keeps of a normalized layer has the rest of its path as one key, which is what Linen
    writes: its scale would else stand below the kernel, which is a leaf.
    """
    made: dict[str, tp.Any] = {}
    for path, value in leaves.items():
        norm = _pairs.LINEN_NORM.fullmatch(path)
        parts = path.split("/")
        if norm and (norm[3] != "scale" or path.rpartition("/")[0] in leaves):
            parts = [*filter(None, norm[1].split("/")), path.removeprefix(norm[1])]
        level = made
        for part in parts[:-1]:
            level = level.setdefault(part, {})
        level[parts[-1]] = value
    return made


def _optimizer_state(optimizer: tp.Any, parameters: Mapping[str, ex.Expression]) -> tp.Any:
    """The state of optax with Linen's dicts in the place of NNX's states."""

    def converted(node: tp.Any) -> tp.Any:
        if isinstance(node, nnx.State):
            return _moments(node, parameters)
        if isinstance(node, nnx.Variable):
            return Abstract(node.get_value().shape, node.get_value().dtype)
        return node

    stop = (nnx.State, nnx.Variable)
    return jax.tree.map(converted, optimizer.opt_state, is_leaf=lambda node: isinstance(node, stop))


def _moments(state: nnx.State, parameters: Mapping[str, ex.Expression]) -> tp.Any:
    """One tree of moments under Linen's names; what is masked stays so."""
    values = {
        joined(map(str, path)): variable.get_value()
        if isinstance(variable, nnx.Variable)
        else variable
        for path, variable in nnx.to_flat_state(state)
    }
    leaves: dict[str, tp.Any] = {}
    for path, expression in parameters.items():
        names = [source.name for source in ex.sources(expression)]
        held = [values.get(name.path) for name in names]
        dtypes = [value.dtype for value in held if value is not None and hasattr(value, "dtype")]
        if dtypes:
            leaves[path] = Abstract(expression.shape, dtypes[0])
        elif any(value is not None for value in held):
            leaves[path] = held[0]  # a MaskedNode
    return nested(leaves)
