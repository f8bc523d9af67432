"""Rules of the user's, read from TOML: how paths in Linen become paths in NNX.

They run in order on the paths of each collection; moments and averages follow their parameters.
The way back is derived: the inverses, in the inverse order. `drop` and `init` have none.
"""

import dataclasses
import re
import tomllib
import typing as tp
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint import _patterns

Tree = dict[str, ex.Expression]  # the leaves of one role by their paths

KINDS = ("rename", "stack", "unstack", "concat", "split", "transpose", "drop", "init")
OPTIONS = {
    "rename": {"to"},
    "stack": {"axis"},
    "unstack": {"axis"},
    "concat": {"to", "axis", "sizes"},
    "split": {"to", "axis", "sizes"},
    "transpose": {"axes"},
    "drop": set[str](),
    "init": set[str](),
}


class RuleError(ValueError):
    """A rule that cannot be read, or does not fit the tree that it meets."""


@dataclasses.dataclass(frozen=True)
class Rule:
    kind: str
    patterns: tuple[str, ...]
    to: tuple[str, ...] = ()
    axis: int = 0
    axes: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    collection: str = ""
    number: int = 0

    @property
    def where(self) -> str:
        return f"rule {self.number} ({self.kind})"

    def inverse(self) -> "Rule | None":
        """The rule that undoes this one, or None of `drop` and `init`."""
        if self.kind in ("drop", "init"):
            return None
        if self.kind == "transpose":
            return dataclasses.replace(self, axes=tuple(ex.inverse_axes(self.axes)))
        kinds = {"stack": "unstack", "unstack": "stack", "concat": "split", "split": "concat"}
        if self.kind in ("stack", "unstack"):
            return dataclasses.replace(self, kind=kinds[self.kind])
        if self.kind == "rename":
            pattern, replacement = _compiled(self)
            turned = _patterns.inverse(pattern, replacement)
            return dataclasses.replace(self, patterns=(_text(turned[0]),), to=(_fill(turned[1]),))
        pairs = [_patterns.inverse(*pair) for pair in _pairs(self)]
        patterns = tuple(dict.fromkeys(_text(pattern)[1:-1] for pattern, _ in pairs))
        to = tuple(dict.fromkeys(_fill(replacement) for _, replacement in pairs))
        return dataclasses.replace(self, kind=kinds[self.kind], patterns=patterns, to=to)


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules in order, and the name under which the Linen tree has an average of the parameters."""

    rules: tuple[Rule, ...] = ()
    ema: str = ""

    def inverse(self) -> "Rules":
        turned = [rule.inverse() for rule in reversed(self.rules)]
        return Rules(tuple(rule for rule in turned if rule is not None), self.ema)

    def dropped(self, path: str, collection: str) -> bool:
        return any(_hits(rule, path, collection) for rule in self.rules if rule.kind == "drop")

    def initial(self, path: str, collection: str) -> bool:
        return any(_hits(rule, path, collection) for rule in self.rules if rule.kind == "init")


def read_rules(given: "Rules | str | Path | Mapping[str, tp.Any] | None") -> Rules:
    """Rules of a TOML file, of what `tomllib` makes of one, or none."""
    if given is None:
        return Rules()
    if isinstance(given, Rules):
        return given
    if not isinstance(given, Mapping):
        try:
            given = tomllib.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RuleError(f"the rules {str(given)!r} cannot be read: {error}") from None
    unknown = sorted(set(given) - {"rule", "ema"})
    if unknown:
        raise RuleError(f"rules have `ema` and tables [[rule]], and not {', '.join(unknown)}")
    ema = given.get("ema", "")
    tables = given.get("rule", [])
    if not isinstance(ema, str) or not isinstance(tables, Sequence) or isinstance(tables, str):
        raise RuleError("`ema` is a text, and `rule` an array of tables, [[rule]]")
    return Rules(tuple(_read(table, i + 1) for i, table in enumerate(tables)), ema)


def _read(table: tp.Any, number: int) -> Rule:
    kinds = [kind for kind in KINDS if isinstance(table, Mapping) and kind in table]
    if len(kinds) != 1:
        raise RuleError(f"rule {number} must have just one of {', '.join(KINDS)}")
    kind = kinds[0]
    unknown = sorted(set(table) - OPTIONS[kind] - {kind, "collection"})
    if unknown:
        raise RuleError(f"rule {number} ({kind}) has no option {', '.join(unknown)}")
    values = dict(table)
    try:
        rule = Rule(
            kind=kind,
            patterns=_texts(values.pop(kind)),
            to=_texts(values.pop("to", ())),
            axis=int(values.pop("axis", -1 if kind in ("concat", "split") else 0)),
            axes=tuple(int(axis) for axis in values.pop("axes", ())),
            sizes=tuple(int(size) for size in values.pop("sizes", ())),
            collection=str(values.pop("collection", "")),
            number=number,
        )
        _check(rule)
    except (TypeError, ValueError, re.error) as error:
        raise RuleError(f"rule {number} ({kind}): {error}") from None
    return rule


def _texts(value: tp.Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not all(isinstance(text, str) for text in value):
        raise ValueError("patterns and paths are texts")
    return tuple(value)


def _check(rule: Rule) -> None:
    """Refuses at once what could not be applied, or not be turned round."""
    if rule.kind in ("concat", "split"):
        one, many = (rule.to, rule.patterns) if rule.kind == "concat" else (rule.patterns, rule.to)
        if len(one) != 1 or len(many) < 2:
            raise ValueError("it takes several paths on one side, and one on the other")
        if rule.sizes and len(rule.sizes) != len(many):
            raise ValueError(f"it has {len(rule.sizes)} sizes for {len(many)} paths")
        if rule.kind == "concat" and len({pair[0].groups for pair in _pairs(rule)}) != 1:
            raise ValueError("its patterns must have the same groups")
        return
    if len(rule.patterns) != 1:
        raise ValueError("it takes one path")
    if rule.kind == "rename":
        if len(rule.to) != 1:
            raise ValueError("it needs `to`, the replacement")
        _compiled(rule)
    if rule.kind in ("transpose", "drop", "init"):
        re.compile(rule.patterns[0])
    if rule.kind == "transpose" and sorted(rule.axes) != list(range(len(rule.axes))):
        raise ValueError("`axes` must name each axis once, as [1, 0]")


def _compiled(rule: Rule) -> tuple[_patterns.Pattern, _patterns.Replacement]:
    pattern = _patterns.parse(rule.patterns[0])
    return pattern, _patterns.parse_replacement(rule.to[0], pattern, rule.kind)


def _text(pattern: _patterns.Pattern) -> str:
    parts = [part if i % 2 else _escaped(part) for i, part in enumerate(pattern.parts)]
    return "^" * pattern.start + "".join(parts) + "$" * pattern.end


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in _patterns.SPECIAL or c in "(\\" else c for c in text)


def _fill(replacement: _patterns.Replacement) -> str:
    numbers = [f"\\g<{number}>" for number in replacement.numbers]
    return "".join(a + b for a, b in zip(replacement.texts, (*numbers, ""), strict=True))


def _anchored(pattern: str, to: str) -> tuple[_patterns.Pattern, _patterns.Replacement]:
    """A whole path and what stands for it: those of `concat` and `split` are never parts."""
    parsed = dataclasses.replace(_patterns.parse(pattern), start=True, end=True)
    return parsed, _patterns.parse_replacement(to, parsed, "a path")


def _pairs(rule: Rule) -> list[tuple[_patterns.Pattern, _patterns.Replacement]]:
    """Of `concat` and `split`: each whole path with each that stands for it."""
    return [_anchored(pattern, to) for pattern in rule.patterns for to in rule.to]


def _hits(rule: Rule, path: str, collection: str) -> bool:
    if rule.collection and rule.collection != collection:
        return False
    return re.search(rule.patterns[0], path) is not None


def apply(rules: Rules, tree: Tree, collection: str, used: set[int]) -> Tree:
    """The tree with each rule applied, in order; `drop` and `init` are no concern of it.

    Adds the numbers of the rules that changed something to `used`.
    """
    for rule in rules.rules:
        if rule.kind in ("drop", "init") or (rule.collection and rule.collection != collection):
            continue
        try:
            made = STEPS[rule.kind](rule, tree)
        except (ValueError, IndexError) as error:
            raise RuleError(f"{rule.where} on {collection}: {error}") from None
        if made != tree:
            used.add(rule.number)
        tree = made
    return tree


def _put(tree: Tree, path: str, value: ex.Expression) -> None:
    if path in tree:
        raise ValueError(f"two leaves come to {path!r}")
    tree[path] = value


def _rename(rule: Rule, tree: Tree) -> Tree:
    pattern, replacement = _compiled(rule)
    back = _patterns.inverse(pattern, replacement)
    made: Tree = {}
    for path, value in tree.items():
        renamed = _patterns.substitute(path, pattern, replacement)
        returned = _patterns.substitute(renamed, *back)
        if returned != path:
            raise ValueError(
                f"{path!r} becomes {renamed!r}, which the inverse takes to {returned!r}; "
                "make the pattern or the replacement narrower"
            )
        _put(made, renamed, value)
    return made


def _members(prefix: str, tree: Tree) -> dict[str, dict[int, ex.Expression]]:
    """What stands under `prefix/0`, `prefix/1`, ... by the rest of its path."""
    found: dict[str, dict[int, ex.Expression]] = {}
    for path, value in tree.items():
        if not path.startswith(prefix + "/"):
            continue
        head, _, rest = path[len(prefix) + 1 :].partition("/")
        if not head.isdecimal():
            raise ValueError(f"{path!r} stands beside what is to be stacked and has no number")
        found.setdefault(rest, {})[int(head)] = value
    return found


def _stack(rule: Rule, tree: Tree) -> Tree:
    prefix = rule.patterns[0].rstrip("/")
    members = _members(prefix, tree)
    gone = {
        f"{prefix}/{i}" + f"/{rest}" * bool(rest) for rest, all_ in members.items() for i in all_
    }
    made = {path: value for path, value in tree.items() if path not in gone}
    lengths = {len(all_) for all_ in members.values()}
    for rest, all_ in members.items():
        if sorted(all_) != list(range(len(all_))) or len(lengths) != 1:
            raise ValueError(f"{prefix}/N/{rest} has the numbers {sorted(all_)}; some are missing")
        value = ex.stack([all_[i] for i in range(len(all_))], rule.axis)
        _put(made, prefix + f"/{rest}" * bool(rest), value)
    return made


def _unstack(rule: Rule, tree: Tree) -> Tree:
    prefix = rule.patterns[0].rstrip("/")
    made: Tree = {}
    lengths: set[int] = set()
    for path, value in tree.items():
        if path != prefix and not path.startswith(prefix + "/"):
            _put(made, path, value)
            continue
        axis = ex.positive(rule.axis, len(value.shape))
        lengths.add(value.shape[axis])
        for i in range(value.shape[axis]):
            _put(made, f"{prefix}/{i}{path[len(prefix) :]}", ex.take(value, axis, i))
    if len(lengths) > 1:
        raise ValueError(f"leaves under {prefix!r} have different lengths on axis {rule.axis}")
    return made


def _concat(rule: Rule, tree: Tree) -> Tree:
    found: dict[str, dict[int, str]] = {}
    for place, text in enumerate(rule.patterns):
        pattern, replacement = _anchored(text, rule.to[0])
        for path in tree:
            target = _patterns.substitute(path, pattern, replacement)
            if pattern.search(path):
                found.setdefault(target, {})[place] = path
    gone = {path for places in found.values() for path in places.values()}
    made = {path: value for path, value in tree.items() if path not in gone}
    for target, places in found.items():
        if len(places) != len(rule.patterns):
            raise ValueError(f"{target!r} lacks {len(rule.patterns) - len(places)} of its parts")
        parts = [tree[places[i]] for i in range(len(places))]
        whole = ex.concat(parts, rule.axis)
        axis = ex.positive(rule.axis, len(whole.shape))
        sizes = [part.shape[axis] for part in parts]
        if sizes != list(rule.sizes or [sizes[0]] * len(sizes)):
            raise ValueError(
                f"the parts of {target!r} have the sizes {sizes}; give them as `sizes`"
            )
        _put(made, target, whole)
    return made


def _split(rule: Rule, tree: Tree) -> Tree:
    made: Tree = {}
    for path, value in tree.items():
        pattern = _anchored(rule.patterns[0], rule.to[0])[0]
        if not pattern.search(path):
            _put(made, path, value)
            continue
        length = value.shape[ex.positive(rule.axis, len(value.shape))]
        sizes = rule.sizes or (length // len(rule.to),) * len(rule.to)
        pieces = ex.split(value, rule.axis, sizes)
        for text, piece in zip(rule.to, pieces, strict=True):
            _put(made, _patterns.substitute(path, *_anchored(rule.patterns[0], text)), piece)
    return made


def _transpose(rule: Rule, tree: Tree) -> Tree:
    hits = {path for path in tree if re.search(rule.patterns[0], path) is not None}
    return {
        path: ex.transpose(value, rule.axes) if path in hits else value
        for path, value in tree.items()
    }


STEPS: dict[str, Callable[[Rule, Tree], Tree]] = {
    "rename": _rename,
    "stack": _stack,
    "unstack": _unstack,
    "concat": _concat,
    "split": _split,
    "transpose": _transpose,
}
