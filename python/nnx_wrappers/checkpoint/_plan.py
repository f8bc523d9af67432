"""The plan of a move: what was matched, checked leaf by leaf and written into a report."""

from collections.abc import Mapping

from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint._match import (
    DROP,
    INIT,
    Matching,
    Options,
    Plan,
    is_model,
    selected,
    suggestions,
    under,
)
from nnx_wrappers.checkpoint._names import ANY, EMA, OPT, STEP, Leaf, Name, canonical
from nnx_wrappers.checkpoint._report import Report
from nnx_wrappers.checkpoint._rules import Rules
from nnx_wrappers.checkpoint._sides import LINEN, NNX, Side

COUNTS = ": the count starts as the target was made; `rng_counts` sets it"


def plan(source: Side, target: Side, rules: Rules, options: Options) -> Plan:
    """What each leaf of the target is made of; `rules` lead from Linen to NNX."""
    source, target = selected(source, options.only), selected(target, options.only)
    matching = Matching(source, target, rules, options)
    turned = source.kind == NNX and target.kind == LINEN
    matching.run(turned)
    report = matching.report
    for side, whose in ((source, "source"), (target, "target")):
        for name in side.double:
            report.add("ambiguous", str(name), note=f"two leaves of the {whose} have this name")
    values = {
        leaf.name: value
        for leaf in target.leaves.values()
        if (value := _checked(leaf, matching)) is not None
    }
    _leftovers(matching, values, turned)
    values |= _random(source, target, matching)
    if options.only == "opt":
        _hide_parameters(report, source, target)
    return Plan(values, report)


def _hide_parameters(report: Report, *sides: Side) -> None:
    """Takes out the rows of parameters, which were matched only to find the way of moments."""
    names = {str(n) for side in sides for n in side.leaves if n.role in ("params", ANY)}
    report.rows = [
        row
        for row in report.rows
        if any(name not in names for name in (row.target, row.source) if name)
    ]


def _checked(leaf: Leaf, matching: Matching) -> ex.Expression | None:
    """The value for a leaf of the target if it fits; its row goes into the report."""
    value = matching.values.get(leaf.name)
    if value is None:
        _absent(leaf, matching)
        return None
    origin = _origin(value)
    if value.shape != leaf.shape:
        note = f"the target is {list(leaf.shape)}, the source gives {list(value.shape)}"
        matching.report.add("wrong shape", str(leaf.name), origin, note)
        return None
    return _fitting(leaf, value, origin, matching)


def _fitting(
    leaf: Leaf, value: ex.Expression, origin: str, matching: Matching
) -> ex.Expression | None:
    by_rule = leaf.name in matching.by_rule
    if value.dtype != leaf.dtype:
        note = f"{value.dtype} to {leaf.dtype}"
        keys = "key<" in value.dtype + leaf.dtype
        if keys or not (matching.options.cast or leaf.name.role == STEP):
            remedy = "" if keys else "; `cast` converts it"
            matching.report.add("wrong dtype", str(leaf.name), origin, note + remedy)
            return None
        matching.report.add("cast", str(leaf.name), origin, note, by_rule=by_rule)
        return value
    if not isinstance(value, ex.Source):
        matching.report.add("reshaped", str(leaf.name), origin, how(value), by_rule=by_rule)
    elif _short(value.name) != _short(leaf.name):
        matching.report.add("renamed", str(leaf.name), origin, by_rule=by_rule)
    else:
        matching.report.add("matched", str(leaf.name), origin, by_rule=by_rule)
    return value


def _short(name: Name) -> str:
    return canonical(name.path.removesuffix("/value"))


def _absent(leaf: Leaf, matching: Matching) -> None:
    """Writes the row of a leaf that the source has not."""
    name = leaf.name
    reason = under(name.path, matching.reasons) if is_model(name) else None
    axis = under(name.path, matching.axes) if name.path else None
    if reason:
        matching.report.add("not representable", str(name), note=reason)
    elif name.role == EMA and name.path in _statistics(matching, target=True):
        matching.report.add("initial", str(name), note="no parameter, so it has no average")
    elif axis:
        matching.report.add("ambiguous", str(name), note=axis)
    elif matching.rules.initial(name.path, name.role) or matching.options.missing == INIT:
        matching.report.add("initial", str(name), note="not in the source: as it was made")
    else:
        used = {s.name for value in matching.values.values() for s in ex.sources(value)}
        free = [other for other in matching.source.leaves.values() if other.name not in used]
        alike = suggestions(leaf, free)
        note = matching.notes.get(name, "")
        if alike:
            note = "; ".join(filter(None, [note, f"of its shape in the source: {alike}"]))
        matching.report.add("missing", str(name), note=note)


def _statistics(matching: Matching, target: bool) -> set[str]:
    """The paths on one side of what is matched and is no parameter."""
    paths = set()
    for name, value in matching.values.items():
        names = [source.name for source in ex.sources(value)]
        if is_model(name) and any(n.role not in ("params", ANY) for n in (name, *names)):
            paths |= {name.path} if target else {n.path for n in names}
    return paths


def _leftovers(matching: Matching, values: Mapping[Name, ex.Expression], turned: bool) -> None:
    """Rows of the leaves of the source that nothing took."""
    used = {source.name for value in matching.values.values() for source in ex.sources(value)}
    has_optimizer = any(name.role.startswith(OPT) for name in matching.target.leaves)
    for name in matching.source.leaves:
        if name in used:
            continue
        reason = under(name.path, matching.reasons) if is_model(name) else None
        if not turned and name.path and matching.rules.dropped(name.path, name.role):
            matching.report.add("dropped", "", str(name), "by a rule")
        elif reason:
            matching.report.add("not representable", "", str(name), reason)
        elif name.role == EMA and name.path in _statistics(matching, target=False):
            matching.report.add("dropped", "", str(name), "no parameter, so it has no average")
        elif matching.options.unexpected == DROP:
            matching.report.add("dropped", "", str(name), "the target has no place for it")
        else:
            note = ""
            if name.role.startswith((OPT, STEP)) and not has_optimizer:
                note = "the target has no optimizer"
            matching.report.add("unexpected", "", str(name), note)


def _random(source: Side, target: Side, matching: Matching) -> dict[Name, ex.Expression]:
    """The state of the streams, which Linen does not have; each leaf of it is named."""
    there = {leaf.name.path: leaf for leaf in source.rng}
    values: dict[Name, ex.Expression] = {}
    for leaf in target.rng:
        other = there.pop(leaf.name.path, None)
        if other is not None:
            values[leaf.name] = ex.Source(other.shape, other.dtype, other.name)
            matching.report.add("matched", str(leaf.name), str(other.name))
        else:
            note = "not in the source"
            if not matching.options.comparing:
                is_key = leaf.name.path.endswith("key")
                note += ": the key is the target's" if is_key else COUNTS
            matching.report.add("rng", str(leaf.name), note=note)
    for other in there.values():
        matching.report.add("rng", "", str(other.name), "Linen has no state of streams")
    return values


def _origin(value: ex.Expression) -> str:
    names = [str(source.name) for source in ex.sources(value)]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def how(value: ex.Expression) -> str:
    """A reshaping in words."""
    if isinstance(value, ex.Part):
        if value.length is None:
            text = f"entry {value.start} of axis {value.axis}"
        else:
            text = f"{value.start}:{value.start + value.length} of axis {value.axis}"
        inner = how(value.of)
    elif isinstance(value, ex.Transposed):
        text, inner = f"axes {list(value.axes)}", how(value.of)
    elif isinstance(value, ex.Joined):
        verb = "stacked" if value.stacked else "concatenated"
        text, inner = f"{len(value.parts)} {verb} on axis {value.axis}", how(value.parts[0])
    else:
        return ""
    return f"{text} of {inner}" if inner else text
