"""Which leaves of the source make which leaf of the target, from metadata alone."""

import dataclasses
import difflib
import typing as tp
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint import _pairs, _rules, _stacks
from nnx_wrappers.checkpoint._names import (
    ANY,
    EMA,
    OPT,
    STEP,
    Leaf,
    Name,
    canonical,
    joined,
    without_value,
)
from nnx_wrappers.checkpoint._report import Report
from nnx_wrappers.checkpoint._sides import LINEN, Side

ERROR, INIT, DROP = "error", "init", "drop"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to do about leaves that do not fit; see `load_linen`."""

    missing: str = ERROR  # or INIT
    unexpected: str = ERROR  # or DROP
    cast: bool = False
    only: str = "all"  # or params, opt
    comparing: bool = False  # whether both trees are there already

    def __post_init__(self) -> None:
        for name, allowed in (
            ("missing", (ERROR, INIT)),
            ("unexpected", (ERROR, DROP)),
            ("only", ("all", "params", "opt")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is none of {', '.join(allowed)}")


@dataclasses.dataclass
class Plan:
    """What each leaf of the target is made of, and the report on it."""

    values: dict[Name, ex.Expression]
    report: Report


class Matching:
    """The state of one matching; `plan` runs it."""

    def __init__(self, source: Side, target: Side, rules: _rules.Rules, options: Options) -> None:
        self.source, self.target, self.options = source, target, options
        self.rules = rules
        self.report = Report()
        self.values: dict[Name, ex.Expression] = {}
        self.by_rule: set[Name] = set()  # leaves of the target
        self.notes: dict[Name, str] = {}  # why a leaf of the target was not found
        self.reasons: dict[str, str] = {}  # prefix of paths: why it cannot be represented
        self.axes: dict[str, str] = {}  # prefix of paths: why its axis is not known

    def run(self, turned: bool) -> None:
        """Matches model leaves, then what follows them; `turned` takes the rules backwards."""
        model = self._after_rules(turned)
        wanted: dict[str, list[Leaf]] = defaultdict(list)
        for leaf in self.target.leaves.values():
            if is_model(leaf.name):
                wanted[leaf.name.role].append(leaf)
        for role, leaves in wanted.items():
            self._match_role(role, leaves, model)
        self._follow()

    def _after_rules(self, turned: bool) -> dict[str, dict[str, tuple[ex.Expression, bool]]]:
        """The leaves of the model in the source by role and path, and whether a rule moved them."""
        trees: dict[str, dict[str, ex.Expression]] = defaultdict(dict)
        for leaf in self.source.leaves.values():
            if is_model(leaf.name):
                trees[leaf.name.role][leaf.name.path] = _source(leaf)
        rules = self.rules.inverse() if turned else self.rules
        used: set[int] = set()
        moved = {}
        for role, tree in trees.items():
            kept = {p: e for p, e in tree.items() if turned or not self.rules.dropped(p, role)}
            after = _rules.apply(rules, kept, role, used)
            moved[role] = {path: (value, kept.get(path) != value) for path, value in after.items()}
        for rule in rules.rules:
            if rule.number not in used and rule.kind not in ("drop", "init"):
                self.report.add(
                    "ambiguous", rule.where, note="it fits no leaf; correct or remove it"
                )
        return moved

    def _match_role(
        self,
        role: str,
        leaves: list[Leaf],
        model: Mapping[str, Mapping[str, tuple[ex.Expression, bool]]],
    ) -> None:
        roles = [r for r in model if role in (ANY, r) or r == ANY]
        held = Counter(path for r in roles for path in model[r])
        pool = {p: value for r in roles for p, (value, _) in model[r].items() if held[p] == 1}
        moved = [value for r in roles for value, by_rule in model[r].values() if by_rule]
        ruled = {source.name for value in moved for source in ex.sources(value)}
        short_pool, short_wanted = _canonical(pool), _canonical(leaf.name.path for leaf in leaves)
        by_short = {short_pool[path]: value for path, value in pool.items()}
        shapes = {short_wanted[leaf.name.path]: leaf.shape for leaf in leaves}
        found = self._search(by_short, shapes)
        for leaf in leaves:
            short = short_wanted[leaf.name.path]
            if short in found:
                self.values[leaf.name] = found[short]
                if ruled.intersection(source.name for source in ex.sources(found[short])):
                    self.by_rule.add(leaf.name)
            elif held[leaf.name.path] > 1:
                self.notes[leaf.name] = "several collections of the source have this path"

    def _search(
        self, pool: dict[str, ex.Expression], wanted: dict[str, tuple[int, ...]]
    ) -> dict[str, ex.Expression]:
        """Equal names, then pairs of layers and stacks of what is left, until nothing is gained."""
        is_linen = self.source.kind == LINEN or self.target.kind != LINEN
        found: dict[str, ex.Expression] = {}
        while True:
            equal = {path: pool[path] for path in wanted if path in pool and path not in found}
            found |= equal
            used = {source.name for value in found.values() for source in ex.sources(value)}
            left = {
                path: value
                for path, value in pool.items()
                if not all(source.name in used for source in ex.sources(value))
            }
            open_ = {path: shape for path, shape in wanted.items() if path not in found}
            made = _pairs.made(left, open_, is_linen)
            made |= _stacks.unstacked(left, open_, self.axes)
            made |= _stacks.stacked(left, open_, self.axes)
            new = {path: value for path, value in made.items() if path not in pool}
            if not new:
                names = (left, open_) if is_linen else (open_, left)
                self.reasons |= _pairs.not_representable(*names)
                return found
            pool = pool | new

    def _follow(self) -> None:
        """Moments, averages and numbers: as their parameters, in their own role."""
        by_path = {
            name.path: (value, name in self.by_rule)
            for name, value in self.values.items()
            if name.role in ("params", ANY)
        }
        by_path |= {
            n.path: (v, n in self.by_rule) for n, v in self.values.items() if n.path not in by_path
        }
        for leaf in self.target.leaves.values():
            name = leaf.name
            if is_model(name) or name in self.values:
                continue
            if not name.path:
                if name in self.source.leaves:
                    self.values[name] = _source(self.source.leaves[name])
                continue
            value, by_rule = by_path.get(name.path, (None, False))
            if value is None:
                continue
            moved = ex.in_role(value, name.role)
            if all(source.name in self.source.leaves for source in ex.sources(moved)):
                self.values[name] = moved
                if by_rule:
                    self.by_rule.add(name)


def is_model(name: Name) -> bool:
    return bool(name.path) and not name.role.startswith(OPT) and name.role not in (STEP, EMA)


def _source(leaf: Leaf) -> ex.Source:
    return ex.Source(leaf.shape, leaf.dtype, leaf.name)


def _canonical(paths: Iterable[str]) -> dict[str, str]:
    """Paths without `value` where `layers_0` is `layers/0`, but for those that would become one."""
    keys = without_value([tuple(path.split("/")) for path in paths])
    short = {joined(key): canonical(joined(now)) for key, now in keys.items()}
    counts = Counter(short.values())
    return {path: now if counts[now] == 1 else path for path, now in short.items()}


def selected(side: Side, only: str) -> Side:
    """The side without what a comparison leaves out."""
    if only == "all":
        return side

    def keep(name: Name) -> bool:
        is_parameter = name.role in ("params", ANY)
        return is_parameter if only == "params" else not is_model(name) and name.role != EMA

    if only == "opt":  # parameters are matched too: moments go their ways
        kept = {n: leaf for n, leaf in side.leaves.items() if keep(n) or n.role in ("params", ANY)}
    else:
        kept = {name: leaf for name, leaf in side.leaves.items() if keep(name)}
    return dataclasses.replace(side, leaves=kept, rng=[])


def suggestions(leaf: Leaf, free: Iterable[Leaf], most: int = 3) -> str:
    """Leaves of the same shape that nothing took, those with the likest names first."""
    alike = [other for other in free if leaf.shape and _holds(other, leaf)]
    same_role = [other for other in alike if ANY in (other.name.role, leaf.name.role)]
    same_role += [other for other in alike if other.name.role == leaf.name.role]

    def unlike(other: Leaf) -> float:
        return -difflib.SequenceMatcher(None, str(other.name), str(leaf.name)).ratio()

    likely = sorted(dict.fromkeys(same_role), key=unlike)
    names = [f"{o.name}{'' if o.shape == leaf.shape else ' (stacked)'}" for o in likely]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _holds(other: Leaf, leaf: Leaf) -> bool:
    """Whether a leaf has the shape of another, or its last name and the shape of its stack."""
    whole = other.shape
    stacks = [whole[:i] + whole[i + 1 :] for i in range(len(whole))]
    last = [one.name.path.rpartition("/")[2] for one in (other, leaf)]
    return whole == leaf.shape or (leaf.shape in stacks and last[0] == last[1])


def under(path: str, prefixes: Mapping[str, tp.Any]) -> tp.Any:
    """What is said of the longest of the prefixes that the path begins with."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        start = prefix.rstrip("/") + "/" if prefix else ""
        if path.startswith(start) or canonical(path).startswith(start):
            return prefixes[prefix]
    return None
