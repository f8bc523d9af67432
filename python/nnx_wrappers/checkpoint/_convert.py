"""Checkpoints on disk: converted and compared, leaf by leaf."""

import typing as tp
from collections.abc import Callable, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from nnx_wrappers.checkpoint import _batches, _names, _target
from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint._load import GivenRules, side_of
from nnx_wrappers.checkpoint._match import ERROR, Options, Plan
from nnx_wrappers.checkpoint._names import Key, Name
from nnx_wrappers.checkpoint._plan import plan
from nnx_wrappers.checkpoint._read import Checkpoint, open_checkpoint
from nnx_wrappers.checkpoint._report import Report, refuse
from nnx_wrappers.checkpoint._rules import read_rules
from nnx_wrappers.checkpoint._sides import Side
from nnx_wrappers.checkpoint._write import Destination, checksum

Progress = Callable[[int, int], None]  # leaves done, and all of them


def convert_checkpoint(
    source: str | Path,
    destination: str | Path,
    target: str | _target.Make,
    rules: GivenRules = None,
    *,
    missing: str = ERROR,
    unexpected: str = ERROR,
    cast: bool = False,
    rng_counts: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Converts a checkpoint to an Orbax checkpoint of another model, leaf by leaf.

    The metadata alone says whether it fits; only then are arrays read, in batches of about the size
    of the largest leaf. What was written is read back and compared, and `destination` appears whole
    or not at all.

    Arguments:
      source: an Orbax checkpoint, a folder of steps of which the newest is taken, or a file of
        `flax.serialization`.
      destination: the folder to make. It must not exist.
      target: a function, or its name as `package.module:name`. It makes the NNX model, or a tuple
        or dict of `model`, `optimizer` and `ema`, or Linen's variables or a `TrainState`. It is
        evaluated abstractly.
      rules: see `load_linen`. From NNX to Linen their inverse is applied.
      missing: "init" takes leaves that the source lacks as the target makes them.
      unexpected: "drop" leaves out what the target has no place for.
      cast: whether a leaf may be converted to the dtype of the target.
      rng_counts: the count that each stream of an NNX target starts at, if the source has none.
      dry_run: only make the report.
      progress: called with the number of leaves that are done, and of all.

    Returns:
      A report that names each leaf.

    Raises:
      CheckpointError: a `ValueError`; nothing was written.

    Two calls may run at once for different destinations.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from flax import nnx, serialization
      >>> from nnx_wrappers import convert_checkpoint
      >>> folder = Path(tempfile.mkdtemp())
      >>> variables = nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 3)))
      >>> _ = (folder / "dense").write_bytes(serialization.to_bytes(variables))
      >>> def make():
      ...     return nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> print(convert_checkpoint(folder / "dense", folder / "linear", make))
      2 matched
    """
    given = read_rules(rules)
    found = open_checkpoint(source)
    wanted = _target.abstract(target, given.ema)
    origin = side_of(found.found, given.ema, wanted.side)
    move = plan(origin, wanted.side, given, Options(missing, unexpected, cast))
    refuse(move.report, f"{source} does not fit the target")
    if not dry_run:
        with Destination(destination) as into:
            _write(found, origin, wanted, move, into, rng_counts, progress)
    return move.report


def _write(
    found: Checkpoint,
    origin: Side,
    wanted: _target.Target,
    move: Plan,
    into: Destination,
    rng_counts: int | None,
    progress: Progress | None,
) -> None:
    keys = wanted.side.keys()
    sums: dict[Key, int] = {}
    done = {keys[name] for name in move.values}

    def put(values: Mapping[Key, tp.Any]) -> None:
        sums.update({key: checksum(value) for key, value in values.items()})
        into.write({wanted.paths[key]: value for key, value in values.items()})
        if progress is not None:
            progress(len(sums), len(wanted.paths))

    reader = _Reader(found, origin, move)
    for batch in _batches.of_values(move.values):
        dtypes = {name: wanted.shapes[keys[name]][1] for name in batch}
        put({keys[n]: _as(v, dtypes[n]) for n, v in reader.values(batch).items()})
    rest = wanted.initial(key for key in wanted.paths if key not in done)
    for leaf in wanted.side.rng:
        if rng_counts is not None and leaf.key in rest and leaf.name.role == "rng_count":
            rest[leaf.key] = jnp.full(leaf.shape, rng_counts, leaf.dtype)
    if rest:
        put(rest)
    if wanted.empty:
        into.write(dict.fromkeys(wanted.empty))
    into.finish(sums)


class _Reader:
    """Computes leaves of the target; it keeps none, so that one batch is held at a time."""

    def __init__(self, found: Checkpoint, origin: Side, move: Plan) -> None:
        self.found, self.move = found, move
        self.keys = origin.keys()

    def values(self, batch: list[Name]) -> dict[Name, tp.Any]:
        made = self.move.values
        names = {source.name for name in batch for source in ex.sources(made[name])}
        read = self.found.read_many(self.keys[name] for name in names)
        value_of = {name: read[self.keys[name]] for name in names}
        return {name: ex.evaluate(made[name], value_of.__getitem__) for name in batch}


def _as(value: tp.Any, dtype: str) -> tp.Any:
    """The value as an array of this dtype; random keys are left alone."""
    if "key<" in dtype:
        return value
    array = value if hasattr(value, "astype") else np.asarray(value)
    return array if str(array.dtype) == dtype else array.astype(jnp.dtype(dtype))


def compare_checkpoints(
    a: str | Path,
    b: str | Path,
    rules: GivenRules = None,
    *,
    values: str | float | None = None,
    only: str = "all",
) -> Report:
    """Compares two checkpoints leaf by leaf, a Linen one with an NNX one too.

    Arguments:
      a, b: as the source of `convert_checkpoint`.
      rules: how paths in Linen become paths in NNX; of two checkpoints of one kind, how paths
        of `a` become paths of `b`.
      values: "exact" to compare all values bit for bit, or the greatest difference that is allowed;
        None compares metadata alone.
      only: "params" or "opt" to compare the parameters or the state of the optimizer alone.

    Returns:
      A report whose `ok` says whether they are the same; a leaf with other values "differs".

    Raises:
      CheckpointError: a `ValueError`, if one of them cannot be read.

    It changes nothing, so threads may call it at once.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> import jax.numpy as jnp
      >>> from flax import serialization
      >>> from nnx_wrappers import compare_checkpoints
      >>> folder = Path(tempfile.mkdtemp())
      >>> for name in "ab":
      ...     data = serialization.to_bytes({"params": {"w": jnp.ones(2) * (name == "b")}})
      ...     _ = (folder / name).write_bytes(data)
      >>> compare_checkpoints(folder / "a", folder / "b").ok
      True
      >>> print(compare_checkpoints(folder / "a", folder / "b", values="exact"))
      1 differs
      differs:
        params/w: by up to 1
    """
    tolerance = _tolerance(values)
    given = read_rules(rules)
    first, second = open_checkpoint(a), open_checkpoint(b)
    origin = side_of(first.found, given.ema)
    other = side_of(second.found, given.ema, origin)
    move = plan(origin, other, given, Options(only=only, comparing=True))
    if tolerance is not None:
        _mark(move.report, _differing(first, second, origin, other, move, tolerance, only))
    return move.report


def _differing(
    first: Checkpoint,
    second: Checkpoint,
    origin: Side,
    other: Side,
    move: Plan,
    tolerance: float,
    only: str,
) -> dict[str, str]:
    """How leaves of other values differ, by their names in the second checkpoint."""
    keys = other.keys()
    reader = _Reader(first, origin, move)
    found: dict[str, str] = {}
    for batch in _batches.of_values(move.values):
        names = [n for n in batch if only != "opt" or n.role not in ("params", _names.ANY)]
        found |= _differing_of(
            reader.values(names), second.read_many(keys[n] for n in names), keys, tolerance
        )
    return found


def _differing_of(
    values: Mapping[Name, tp.Any],
    there: Mapping[Key, tp.Any],
    keys: Mapping[Name, Key],
    tolerance: float,
) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        other = there[keys[name]]
        dtype = _names.described(other)[1]  # of a step, as it is moved
        text = difference(_as(value, dtype), _as(other, dtype), tolerance)
        found |= {str(name): text} if text else {}
    return found


def _tolerance(values: str | float | None) -> float | None:
    if values is None:
        return None
    try:
        tolerance = 0.0 if values == "exact" else float(values)
    except ValueError:
        tolerance = -1.0
    if not tolerance >= 0:
        raise ValueError(f"values={values!r} is neither 'exact' nor a number that is not negative")
    return tolerance


def _mark(report: Report, differing: Mapping[str, str]) -> None:
    for i, row in enumerate(report.rows):
        if row.target in differing:
            report.rows[i] = row.__class__("differs", row.target, row.source, differing[row.target])


def difference(a: tp.Any, b: tp.Any, tolerance: float) -> str:
    """How two arrays differ by more than is allowed, or nothing; NaNs at one place are equal."""
    if checksum(a) == checksum(b) and np.shape(a) == np.shape(b):
        return ""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return f"{list(a.shape)} and {list(b.shape)}"
    if a.dtype.kind in "biuf" or a.dtype.name in ("bfloat16",):
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        if not (np.isnan(wide_a) == np.isnan(wide_b)).all():
            return "NaN at different places"
        most = float(np.nanmax(np.abs(wide_a - wide_b), initial=0.0))
        if tolerance and most <= tolerance:
            return ""
        return f"by up to {most:.3g}"
    return "in some bits"
