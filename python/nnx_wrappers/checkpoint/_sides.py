"""What is a parameter, a statistic, a moment, an average or a step, in trees of either system."""

import dataclasses
import typing as tp
from collections.abc import Iterable, Mapping

from flax import nnx

from nnx_wrappers.checkpoint import _names
from nnx_wrappers.checkpoint._names import ANY, EMA, OPT, STEP, Key, Leaf, Name

Shape = tuple[tuple[int, ...], str]
Tops = tuple[Key, Key | None, Key]  # where model, optimizer and average stand
LINEN, NNX = "linen", "nnx"
AVERAGES = ("ema", "avg", "average")
OPTIMIZERS = ("optimizer", "opt")
MODEL = "model"
PARAMS = ("params",)


@dataclasses.dataclass
class Side:
    """One of the two trees of a move."""

    kind: str
    leaves: dict[Name, Leaf]
    rng: list[Leaf] = dataclasses.field(default_factory=list)
    double: list[Name] = dataclasses.field(default_factory=list)  # names of two leaves

    def keys(self) -> dict[Name, Key]:
        """Where each leaf stands, those of random streams included."""
        return {leaf.name: leaf.key for leaf in (*self.leaves.values(), *self.rng)}


def is_linen(keys: tp.Iterable[Key]) -> bool:
    """Whether a tree has the collections of Linen."""
    return any(key[0] == "params" and len(key) > 1 for key in keys)


def _side(kind: str, leaves: list[Leaf], rng: list[Leaf]) -> Side:
    double = list(_names.duplicates(leaves))
    return Side(kind, {leaf.name: leaf for leaf in leaves}, rng, double)


def linen_side(found: Mapping[Key, Shape], ema: str = "") -> Side:
    """Variables, or a `TrainState`, by the keys of its arrays."""
    short = _names.without_value(found)
    root = _root_of_parameters(list(short.values()))
    parameters = {key[len(root) :] for key in short.values() if key[: len(root)] == root}
    average = tuple(ema.split("/")) if ema else _average(short, found, root)
    inner = root[1:]
    optimizer = {key[1:]: key for key in short.values() if key[0] == OPT and len(key) > 1}
    names = _names.split_optimizer(optimizer, {inner + key for key in parameters})
    leaves = []
    for key, now in short.items():
        if average and now[: len(average)] == average:
            rest = now[len(average) :]
            name = Name(
                EMA, _names.joined(rest[len(inner) :] if rest[: len(inner)] == inner else rest)
            )
        elif now[0] == OPT:
            name = names.get(now[1:], Name(OPT, ""))
            name = Name(name.role, _without(name.path, inner))
        else:
            name = _linen_name(now, root)
        leaves.append(Leaf(key, *found[key], name))
    return _side(LINEN, leaves, [])


def _without(path: str, inner: Key) -> str:
    prefix = _names.joined((*inner, ""))
    return path.removeprefix(prefix) if inner else path


def _linen_name(key: Key, root: Key) -> Name:
    if len(root) == 2 and key[0] == root[0] and len(key) > 2:  # TrainState(params=variables)
        return Name(key[1], _names.joined(key[2:]))
    if len(key) == 1:
        return Name(key[0], "")
    return Name(key[0], _names.joined(key[1:]))


def _root_of_parameters(keys: list[Key]) -> Key:
    """Where the parameters are: `params`, or `params/params` if variables were given as such."""
    inside = {key[1] for key in keys if key[0] == "params" and len(key) > 2}
    collections = {"params", "batch_stats", "cache", "intermediates"}
    nested = "params" in inside and inside <= collections
    return ("params", "params") if nested else PARAMS


def _average(short: Mapping[Key, Key], found: Mapping[Key, Shape], root: Key) -> Key:
    """The field that has just the leaves of the parameters, and the name of an average."""
    trees: dict[str, dict[Key, Shape]] = {}
    for key, now in short.items():
        trees.setdefault(now[0], {})[now[1:]] = found[key]
    parameters = {key: shape[0] for key, shape in trees.get("params", {}).items()}
    for top, leaves in trees.items():
        is_named = top != root[0] and any(word in top.lower() for word in AVERAGES)
        shapes = {key: shape[0] for key, shape in leaves.items()}
        if is_named and parameters and shapes == parameters:
            return (top,)
    return ()


def nnx_side(
    found: Mapping[Key, Shape],
    collections: Mapping[Key, str] | None = None,
    tops: Tops | None = None,
) -> Side:
    """An NNX state: of a model, or under `model`, `optimizer` and `ema`.

    `collections` has the collection of each Variable of the model where its type is known.
    """
    short = _names.without_value(found)
    model, optimizer, average = tops_of(short.values()) if tops is None else tops
    if collections is not None:  # the names of Variables are known
        short = {key: key[:-1] if key[-1] == "value" and len(key) > 1 else key for key in found}
    random = _random_state(short, found, collections)
    parameters = {
        key[len(model) :]
        for key in short.values()
        if key[: len(model)] == model and (not optimizer or key[: len(optimizer)] != optimizer)
    }
    in_optimizer = {
        key[len(optimizer) + 1 :]: key
        for key in short.values()
        if optimizer is not None and key[: len(optimizer) + 1] == (*optimizer, OPT)
    }
    names = _names.split_optimizer(in_optimizer, parameters)
    leaves: list[Leaf] = []
    rng: list[Leaf] = []
    for key, now in short.items():
        if optimizer is not None and now[: len(optimizer) + 1] == (*optimizer, OPT):
            name = names[now[len(optimizer) + 1 :]]
        elif optimizer is not None and now == (*optimizer, STEP):
            name = Name(STEP, "")
        elif average and now[: len(average)] == average:
            name = Name(EMA, _names.joined(now[len(average) :]))
        else:
            collection = ANY if collections is None else collections[key]
            name = Name(collection, _names.joined(now[len(model) :]))
        leaf = Leaf(key, *found[key], name)
        (rng if key in random else leaves).append(leaf)
    return _side(NNX, leaves, rng)


def tops_of(keys: Iterable[Key], alone: bool = True) -> Tops:
    """The keys under which model, optimizer and average stand in an NNX state.

    A lone `model` holds the model, unless `alone` says that it is a part of it.
    """
    keys = list(keys)
    tops = {key[0] for key in keys}
    if {OPT, STEP} <= tops or tops == {STEP}:  # the state of an optimizer and no more
        return (), (), ()
    holders = {key[0] for key in keys if len(key) > 2 and key[1] == OPT}
    holders |= {key[0] for key in keys if key[0] in OPTIMIZERS and key[1:2] == (STEP,)}
    optimizer = (holders.pop(),) if len(holders) == 1 else None
    average = (EMA,) if EMA in tops and (optimizer or MODEL in tops) else ()
    rest = tops - {*(optimizer or ()), *average}
    held = optimizer or average or (alone and rest == {MODEL})
    return tuple(rest) if held and len(rest) == 1 else (), optimizer, average


def _random_state(
    short: Mapping[Key, Key], found: Mapping[Key, Shape], collections: Mapping[Key, str] | None
) -> set[Key]:
    """Keys and counts of streams: by their types, or, on disk, a `key` beside a `count`."""
    if collections is not None:
        return {key for key, collection in collections.items() if collection in RNG_COLLECTIONS}
    counts = {now[:-1]: key for key, now in short.items() if now[-1] == "count"}
    random = set()
    for key, now in short.items():
        count = counts.get(now[:-1])
        if now[-1] == "key" and count is not None and found[count] == ((), "uint32"):
            random |= {key, count} if _is_key_data(found[key][1]) else set()
    return random


def _is_key_data(dtype: str) -> bool:
    return dtype.startswith("key<") or dtype == "uint32"


RNG_COLLECTIONS = ("rng_key", "rng_count")


def collection_of(variable: nnx.Variable) -> str:
    """The collection of a Variable, by its type."""
    if isinstance(variable, nnx.RngKey):
        return "rng_key"
    if isinstance(variable, nnx.RngCount):
        return "rng_count"
    return nnx.variable_name_from_type(type(variable), allow_register=True)


@dataclasses.dataclass
class Live:
    """NNX objects: their side, and the Variable's place of each name."""

    side: Side
    places: dict[Name, tuple[str, tuple[tp.Any, ...]]]  # which object, and its path there
    values: dict[Key, tp.Any]
    tags: dict[Key, str]  # the tag of each stream, by the key of its leaves


def live_side(objects: Mapping[str, tp.Any]) -> Live:
    """The side of a model, of an optimizer and of an average by their names; None is left out."""
    found: dict[Key, Shape] = {}
    collections: dict[Key, str] = {}
    where: dict[Key, tuple[str, tuple[tp.Any, ...]]] = {}
    values: dict[Key, tp.Any] = {}
    tags: dict[Key, str] = {}
    for which, node in objects.items():
        if node is None:
            continue
        for path, variable in nnx.to_flat_state(nnx.state(node)):
            value = variable.get_value() if isinstance(variable, nnx.Variable) else variable
            skip = which == EMA and not isinstance(variable, nnx.Param)
            if not _is_array(value) or skip or (which == "optimizer" and path[0] == "model"):
                continue
            key = (which, *map(str, path))
            found[key] = _names.described(value)
            values[key] = value
            where[key] = (which, tuple(path))
            if isinstance(variable, nnx.Variable):
                collections[key] = collection_of(variable)
                if isinstance(variable, nnx.RngState):
                    tags[key] = str(variable.get_metadata().get("tag", ""))
            else:
                collections[key] = ANY  # a plain array has no type to tell it
    # The value that nnx_side takes off would be taken for the one of a Variable.
    side = nnx_side(
        {(*key, "value"): shape for key, shape in found.items()},
        {(*key, "value"): name for key, name in collections.items()},
        (("model",), ("optimizer",), (EMA,)),
    )
    leaves = {
        name: dataclasses.replace(leaf, key=leaf.key[:-1]) for name, leaf in side.leaves.items()
    }
    rng = [dataclasses.replace(leaf, key=leaf.key[:-1]) for leaf in side.rng]
    side = dataclasses.replace(side, leaves=leaves, rng=rng)
    places = {leaf.name: where[leaf.key] for leaf in (*leaves.values(), *rng)}
    return Live(side, places, values, tags)


def _is_array(value: tp.Any) -> bool:
    if isinstance(value, bool | int | float | complex):
        return True
    return hasattr(value, "shape") and hasattr(value, "dtype")
