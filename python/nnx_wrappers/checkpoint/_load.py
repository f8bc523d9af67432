"""Linen's trees into live NNX objects, and back."""

import typing as tp
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from nnx_wrappers.checkpoint import _dump, _names, _sides
from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint._match import ERROR, Options
from nnx_wrappers.checkpoint._names import EMA, Key
from nnx_wrappers.checkpoint._plan import plan
from nnx_wrappers.checkpoint._report import Report, refuse
from nnx_wrappers.checkpoint._rules import Rules, read_rules

GivenRules = Rules | str | Path | Mapping[str, tp.Any] | None
Counts = int | Mapping[str, int] | None
Places = dict[tuple[str, tuple[tp.Any, ...]], tp.Any]


def load_linen(
    model: nnx.Module,
    optimizer: nnx.Optimizer | None,
    tree: tp.Any,
    rules: GivenRules = None,
    *,
    ema: nnx.Module | None = None,
    missing: str = ERROR,
    unexpected: str = ERROR,
    cast: bool = False,
    rng_counts: Counts = None,
) -> Report:
    """Puts Linen's variables, or a whole `TrainState`, into an NNX model and its optimizer.

    Everything is checked first: if a leaf is missing, unexpected, or of another shape or dtype, all
    problems are raised at once and nothing is changed. Else all leaves are assigned, or none.

    Arguments:
      model: the NNX model, with its Variables made (after `lazy_init`, if it has a `ToNNX`).
      optimizer: its `nnx.Optimizer`, or None to move no state of an optimizer.
      tree: variables, a `TrainState`, or what a checkpoint of either was restored to.
      rules: how paths in Linen become paths in NNX: a file of TOML, or what `tomllib` makes of one.
      ema: a model for the average of the parameters, if the tree has one.
      missing: "init" keeps what the model has for a leaf that the tree lacks.
      unexpected: "drop" leaves out what the model has no place for.
      cast: whether a leaf may be converted to the dtype of the model.
      rng_counts: the counts that streams start at, since Linen has none: a number, or a dict of
        numbers by the tags of the streams.

    Returns:
      A report that names each leaf; `print` shows what was not simply matched.

    Raises:
      CheckpointError: a `ValueError` with all problems; its `report` has them too.

    One call at a time for one model; arrays are shared with the tree, not copied.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from flax import nnx
      >>> from nnx_wrappers import load_linen
      >>> variables = nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
      >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(1))
      >>> print(load_linen(model, None, variables))
      2 matched
      >>> bool((model.kernel == variables["params"]["kernel"]).all())
      True
    """
    given = read_rules(rules)
    live = _sides.live_side({"model": model, "optimizer": optimizer, EMA: ema})
    values = _names.flat(tree)
    source = side_of(_names.shapes_of(values), given.ema, live.side)
    found = plan(source, live.side, given, Options(missing, unexpected, cast))
    refuse(found.report, "the tree does not fit the model")
    read = reader(source, values)
    keys = live.side.keys()
    places: Places = {}
    for name, expression in found.values.items():
        now = live.values[keys[name]]
        places[live.places[name]] = _placed(ex.evaluate(expression, read), now)
    places |= _counts(live, rng_counts)
    assign({"model": model, "optimizer": optimizer, EMA: ema}, places)
    return found.report


def side_of(
    found: Mapping[Key, _sides.Shape], ema: str = "", other: _sides.Side | None = None
) -> _sides.Side:
    """The side of a tree whose kind is told by its keys; `other` is what it is matched with."""
    if _sides.is_linen(found):
        return _sides.linen_side(found, ema)
    inside = other is not None and any(name.path.startswith("model/") for name in other.leaves)
    return _sides.nnx_side(found, None, _sides.tops_of(found, alone=not inside))


def reader(side: _sides.Side, values: Mapping[Key, tp.Any]) -> ex.Read:
    """Looks leaves up by their names."""
    keys = side.keys()
    return lambda name: values[keys[name]]


def _placed(value: tp.Any, now: tp.Any) -> tp.Any:
    """The value as an array of the dtype, and where the model's one is spread, spread as that."""
    if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    array = jnp.asarray(value, dtype=_names.described(now)[1])
    spread = isinstance(now, jax.Array) and isinstance(now.sharding, jax.sharding.NamedSharding)
    return jax.device_put(array, now.sharding) if spread else array


def _counts(live: _sides.Live, counts: Counts) -> Places:
    """The counts of streams that were asked for."""
    if counts is None:
        return {}
    found: Places = {}
    tags: set[str] = set()
    for leaf in live.side.rng:
        place = live.places[leaf.name]
        tag = live.tags.get(leaf.key, "")
        wanted = counts if isinstance(counts, int) else counts.get(tag)
        if leaf.name.role == "rng_count" and wanted is not None:
            tags.add(tag)
            found[place] = jnp.full(leaf.shape, wanted, leaf.dtype)
    unknown = [] if isinstance(counts, int) else sorted(set(counts) - tags)
    if unknown:
        raise ValueError(f"rng_counts names streams that the model does not have: {unknown}")
    return found


def assign(objects: Mapping[str, tp.Any], places: Places) -> None:
    """Assigns all values or none."""
    before: list[tuple[tp.Any, tp.Any]] = []
    try:
        for which, node in objects.items():
            mine = {path: value for (owner, path), value in places.items() if owner == which}
            if node is None or not mine:
                continue
            state = nnx.state(node)
            flat = dict(nnx.to_flat_state(state))
            new = {path: _replaced(flat[path], value) for path, value in mine.items()}
            kept = {path: _copied(flat[path]) for path in mine}
            before.append((node, nnx.from_flat_state(kept.items())))
            nnx.update(node, nnx.from_flat_state(new.items()))
    except BaseException:
        for node, state in before:
            nnx.update(node, state)
        raise


def _replaced(variable: tp.Any, value: tp.Any) -> tp.Any:
    return variable.replace(value) if isinstance(variable, nnx.Variable) else value


def _copied(variable: tp.Any) -> tp.Any:
    """What the place holds now: the Variables of a state may be the model's own."""
    return variable.copy() if isinstance(variable, nnx.Variable) else variable


def dump_linen(
    model: nnx.Module,
    optimizer: nnx.Optimizer | None = None,
    rules: GivenRules = None,
    *,
    like: tp.Any = None,
    ema: nnx.Module | None = None,
    missing: str = ERROR,
    unexpected: str = ERROR,
    cast: bool = False,
) -> tuple[tp.Any, Report]:
    """Linen's tree of an NNX model and its optimizer: the inverse of `load_linen`.

    Arguments:
      model: the NNX model.
      optimizer: its `nnx.Optimizer`, or None.
      rules: the rules that `load_linen` takes; their inverse is applied.
      like: variables or a `TrainState`, of arrays or of `jax.ShapeDtypeStruct`: the result has its
        structure, and stacked or listed layers are found from it. Without it, a list of layers
        becomes `layers_0`, `layers_1`, ... as in Linen's `setup`.
      ema: the model that holds the average of the parameters.
      missing: "init" keeps the leaf of `like` that the model lacks.
      unexpected: "drop" leaves out what `like` has no place for.
      cast: whether a leaf may be converted to the dtype in `like`.

    Returns:
      The tree, and the report. Without `like` the tree is a dict of collections; with an optimizer
      it has `opt_state` and `step` too, as a `TrainState` takes them.

    Raises:
      CheckpointError: a `ValueError` with all problems; its `report` has them too.

    It changes nothing, so threads may call it while none changes the model.

    Example:
      >>> from flax import nnx
      >>> from nnx_wrappers import dump_linen
      >>> tree, report = dump_linen(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
      >>> tree["params"]["kernel"].shape
      (3, 2)
      >>> print(report)
      2 matched
    """
    given = read_rules(rules)
    live = _sides.live_side({"model": model, "optimizer": optimizer, EMA: ema})
    if like is None:
        like = _dump.linen_tree(model, optimizer, live, given)
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    target = _sides.linen_side(
        _names.shapes_of({_names.key_of(path): value for path, value in leaves}), given.ema
    )
    found = plan(live.side, target, given, Options(missing, unexpected, cast))
    refuse(found.report, "the model does not fit the tree")
    names = {leaf.key: leaf.name for leaf in target.leaves.values()}
    read = reader(live.side, live.values)
    made = []
    for path, value in leaves:
        expression = found.values.get(names[_names.key_of(path)])
        made.append(value if expression is None else _like(ex.evaluate(expression, read), value))
    return jax.tree_util.tree_unflatten(structure, made), found.report


def _like(value: tp.Any, now: tp.Any) -> tp.Any:
    """The value as what stands there: a number if it is one, else an array of its dtype."""
    if isinstance(now, bool | int | float):
        return type(now)(value)
    return jnp.asarray(value, dtype=now.dtype)
