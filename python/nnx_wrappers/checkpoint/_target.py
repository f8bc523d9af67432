"""What a checkpoint is converted to: the model that a function makes, without its arrays."""

import dataclasses
import importlib
import typing as tp
from collections.abc import Callable, Iterable, Mapping

import jax
from flax import nnx

from nnx_wrappers.checkpoint import _names, _sides
from nnx_wrappers.checkpoint._names import EMA, Key
from nnx_wrappers.checkpoint._report import CheckpointError

MODEL, OPTIMIZER = "model", "optimizer"
Make = Callable[[], tp.Any]


@dataclasses.dataclass
class Target:
    """The tree that is to be written, by its metadata."""

    side: _sides.Side
    paths: dict[Key, tuple[tp.Any, ...]]  # key paths of JAX, which tell dicts from sequences
    empty: list[tuple[tp.Any, ...]]  # those of nodes without leaves
    shapes: dict[Key, _sides.Shape]
    make: Make

    def initial(self, keys: Iterable[Key]) -> dict[Key, tp.Any]:
        """Values of these leaves as the function makes them; others are not computed."""
        wanted = list(keys)
        if not wanted:
            return {}

        def some() -> list[tp.Any]:
            leaves = _names.flat(_tree(_objects(self.make())))
            return [leaves[key] for key in wanted]

        return dict(zip(wanted, jax.jit(some)(), strict=True))


def find(make: str | Make) -> Make:
    """The function that `package.module:name` names."""
    if not isinstance(make, str):
        return make
    module, _, name = make.partition(":")
    if not module or not name:
        raise ValueError(f"the target {make!r} must be written as package.module:function")
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the target {make!r} cannot be found: {error}") from None
    return tp.cast(Make, found)


def abstract(make: str | Make, ema: str = "") -> Target:
    """The metadata of what the function makes; no array is allocated."""
    function = find(make)
    made = _objects(nnx.eval_shape(function))
    tree = _tree(made)
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_empty)[0]
    paths = {_names.key_of(path): path for path, leaf in leaves if not _is_empty(leaf)}
    shapes = {
        _names.key_of(path): _names.described(leaf) for path, leaf in leaves if not _is_empty(leaf)
    }
    empty = [path for path, leaf in leaves if _is_empty(leaf)]
    if _is_nnx(made):
        side = _nnx_side(made, shapes)
    elif _sides.is_linen(shapes):
        side = _sides.linen_side(shapes, ema)
    else:
        raise CheckpointError(
            f"the target made a {type(made).__name__}; expected an NNX model, a model and its "
            "optimizer, or variables or a TrainState with `params`"
        )
    return Target(side, paths, empty, shapes, function)


def _is_empty(node: tp.Any) -> bool:
    return not jax.tree.leaves(node)


def _objects(made: tp.Any) -> tp.Any:
    """NNX objects by their names, or what was made if it is a tree of Linen's."""
    if isinstance(made, nnx.Module):
        return {MODEL: made}
    if isinstance(made, tuple | list) and made and isinstance(made[0], nnx.Module):
        return dict(zip((MODEL, OPTIMIZER, EMA), made, strict=False))
    if isinstance(made, Mapping) and isinstance(made.get(MODEL), nnx.Module):
        unknown = sorted(set(made) - {MODEL, OPTIMIZER, EMA})
        if unknown:
            raise CheckpointError(
                f"the target has {', '.join(map(str, unknown))} beside {MODEL}, {OPTIMIZER}, {EMA}"
            )
        return dict(made)
    return made


def _tree(made: tp.Any) -> tp.Any:
    """What is saved: the state of a lone model, states by their names, or a tree of Linen's."""
    if not _is_nnx(made):
        return made
    states = {name: nnx.state(node) for name, node in made.items() if node is not None}
    return states if len(states) > 1 else states[MODEL]


def _is_nnx(made: tp.Any) -> bool:
    return isinstance(made, dict) and isinstance(made.get(MODEL), nnx.Module)


def _nnx_side(made: dict[str, tp.Any], shapes: Mapping[Key, _sides.Shape]) -> _sides.Side:
    side = _sides.live_side(made).side
    alone = sum(node is not None for node in made.values()) == 1
    on_disk = {key[:-1] if key[-1] == "value" else key: key for key in shapes}

    def placed(leaf: _names.Leaf) -> _names.Leaf:
        return dataclasses.replace(leaf, key=on_disk[leaf.key[1:] if alone else leaf.key])

    leaves = {name: placed(leaf) for name, leaf in side.leaves.items()}
    return dataclasses.replace(side, leaves=leaves, rng=[placed(leaf) for leaf in side.rng])
