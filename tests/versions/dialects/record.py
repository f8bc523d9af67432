"""What a module consists of, and how to run both bridges, in words that each Flax has."""

import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

import nnx_wrappers

theirs = nnx.bridge
ours = nnx_wrappers


def bits(value: tp.Any) -> tp.Any:
    """A value in a form that `==` compares bit for bit."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return (str(value.dtype), value.shape, np.asarray(value).tobytes())
    return value


def outputs(tree: tp.Any) -> list[tp.Any]:
    return [
        (jax.tree_util.keystr(path), bits(leaf))
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    ]


def variables_of(module: tp.Any) -> dict[tp.Any, tp.Any]:
    """Type, metadata and value of each Variable, RNG state included, by path."""
    return {
        path: (type(found), dict(found.get_metadata()), bits(found.value))
        for path, found in nnx.iter_graph(module)
        if isinstance(found, nnx.Variable)
    }


def leaves_of(tree: tp.Any) -> dict[str, tp.Any]:
    """The leaves of Linen variables by path, boxes included."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "unbox"))
    return {jax.tree_util.keystr(path): _leaf(leaf) for path, leaf in flat}


def _leaf(leaf: tp.Any) -> tp.Any:
    if not hasattr(leaf, "unbox"):
        return bits(leaf)
    names = {name: value for name, value in vars(leaf).items() if name != "value"}
    kind = nnx.bridge.NNXMeta if isinstance(leaf, nnx.bridge.NNXMeta) else type(leaf)
    return (kind, names, bits(leaf.value))


def on_both(run: tp.Callable[[tp.Any], tp.Any]) -> tuple[tp.Any, tp.Any]:
    """What `run` returns for our bridge and for Flax's; a module as what it consists of."""
    results = []
    for bridge in (ours, theirs):
        out = run(bridge)
        items = out if isinstance(out, tuple) else (out,)
        results.append(
            [variables_of(x) if isinstance(x, nnx.Module) else outputs(x) for x in items]
        )
    return results[0], results[1]


def assert_alike(run: tp.Callable[[tp.Any], tp.Any]) -> None:
    mine, reference = on_both(run)
    assert mine == reference


def linen_module_of(model: tp.Any) -> nn.Module:
    return model.to_nnx__module if hasattr(model, "to_nnx__module") else model.module
