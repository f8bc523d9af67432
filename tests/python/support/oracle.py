"""Comparing our results with those of Flax's own bridge, bit for bit."""

import typing as tp

import jax
import numpy as np
from flax import nnx
from flax.core import meta

import nnx_wrappers

theirs = nnx.bridge
ours = nnx_wrappers


def bits(value: tp.Any) -> tp.Any:
    """A value in a form that `==` compares bit for bit."""
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return ("key", str(jax.random.key_impl(value)), bits(jax.random.key_data(value)))
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        return (array.shape, str(array.dtype), array.tobytes())
    if isinstance(value, jax.ShapeDtypeStruct):
        return ("abstract", value.shape, str(value.dtype))
    return value


def _is_box(value: tp.Any) -> bool:
    return isinstance(value, meta.AxisMetadata | nnx.Variable)


def describe(tree: tp.Any) -> list[tuple[tp.Any, ...]]:
    """Paths, boxes with their metadata, and bits of every leaf, sorted by path."""
    rows = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box):
        key = jax.tree_util.keystr(path)
        if isinstance(leaf, nnx.bridge.NNXMeta):
            inner = [bits(x) for x in jax.tree.leaves(leaf.value)]
            rows.append((key, "NNXMeta", leaf.var_type, sorted(leaf.metadata.items()), inner))
        elif isinstance(leaf, nnx.Variable):
            inner = [bits(x) for x in jax.tree.leaves(leaf.get_raw_value())]
            metadata = sorted(leaf.get_metadata().items(), key=lambda item: item[0])
            rows.append((key, leaf.var_type, metadata, inner))
        elif isinstance(leaf, meta.AxisMetadata):
            fields = {k: v for k, v in vars(leaf).items() if k != "value"}
            rows.append((key, type(leaf), fields, [bits(x) for x in jax.tree.leaves(leaf.value)]))
        else:
            rows.append((key, bits(leaf)))
    return sorted(rows, key=lambda row: row[0])


def assert_same(mine: tp.Any, reference: tp.Any) -> None:
    """Fails unless both trees have the same paths, boxes, metadata and bits."""
    assert describe(mine) == describe(reference)


def assert_same_module(mine: nnx.Module, reference: nnx.Module) -> None:
    """Fails unless both modules hold the same state, RNG streams included."""
    assert_same(state_of(mine), state_of(reference))


def state_of(module: tp.Any) -> dict[tuple[tp.Any, ...], tp.Any]:
    """The flat state of a module: path -> Variable or array."""
    return {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(module))}


def snapshot(module: nnx.Module) -> tuple[tp.Any, list[bool], dict[str, int]]:
    """What a failed call has to leave as it was: state, flags, and which objects are held."""
    flags = [
        node._pytree__state.initializing
        for _, node in nnx.iter_graph(module, graph=True)
        if isinstance(node, nnx.Pytree)
    ]
    identities = {name: id(value) for name, value in vars(module).items()}
    return describe(state_of(module)), flags, identities
