"""Rules, and the inverses that are derived from them."""

import typing as tp
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from nnx_wrappers import dump_linen, load_linen
from nnx_wrappers.checkpoint import RuleError, _expressions, _rules, read_rules
from nnx_wrappers.checkpoint._names import Name

NAMES = st.sampled_from(["a", "b", "enc_0", "enc_1", "dense", "x.y", "w(1)"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


def source(path: str, shape: tuple[int, ...]) -> _expressions.Expression:
    return _expressions.Source(shape, "float32", Name("params", path))


@st.composite
def rules_and_trees(draw: st.DrawFn) -> tuple[list[dict[str, tp.Any]], dict[str, tp.Any]]:
    """A tree, and rules each of which fits what the ones before made of it."""
    paths = draw(st.sets(PATHS, min_size=1, max_size=5))
    sizes = st.integers(1, 4)
    tree = {path: source(path, (draw(sizes) * 2, 6, draw(sizes))) for path in sorted(paths)}
    first = tree
    rules: list[dict[str, tp.Any]] = []
    for number in range(draw(st.integers(1, 4))):
        rule = draw(rules_for(tree, number))
        try:
            tree = _rules.apply(read_rules({"rule": [rule]}), tree, "params", set())
        except RuleError:  # it does not fit, or has no inverse here
            continue
        rules.append(rule)
    return rules, first


def rules_for(tree: dict[str, tp.Any], number: int) -> st.SearchStrategy[dict[str, tp.Any]]:
    one = st.sampled_from(sorted(tree))
    escaped = one.map(_rules._escaped)
    axis = st.sampled_from([0, 1, 2, -1])
    made = f"made{number}"
    split = {"to": [f"{made}/p", f"{made}/q", f"{made}/r"], "axis": 1}
    return st.one_of(
        escaped.map(lambda p: {"rename": f"^{p}$", "to": made}),
        st.just({"rename": r"^enc_(\d+)", "to": r"layers/\1"}),
        st.just({"rename": "^([^/]+)/([^/]+)/", "to": made + r"/\2/\1/"}),
        st.just({"rename": "(a|b)$", "to": made + r"_\1"}),
        st.builds(lambda p, a: {"unstack": p, "axis": a}, one, axis),
        st.builds(lambda a: {"stack": "layers", "axis": a}, axis),
        escaped.map(lambda p: {"split": p, **split}),
        escaped.map(lambda p: {"transpose": f"^{p}$", "axes": [2, 0, 1]}),
    )


@given(rules_and_trees())
def test_the_inverse_of_rules_gives_back_the_very_leaves(
    case: tuple[list[dict[str, tp.Any]], dict[str, tp.Any]],
) -> None:
    tables, tree = case
    rules = read_rules({"rule": tables})
    there = _rules.apply(rules, tree, "params", set())
    back = _rules.apply(rules.inverse(), there, "params", set())
    assert back == tree
    assert _rules.apply(rules.inverse().inverse(), back, "params", set()) == there


def test_the_values_of_a_chain_of_rules_are_those_of_numpy() -> None:
    w = np.arange(48.0, dtype=np.float32).reshape(2, 4, 6)
    rules = {
        "rule": [
            {"rename": r"^block/(\w+)$", "to": r"layers/\1"},
            {"unstack": "layers"},
            {"transpose": "w$", "axes": [1, 0]},
            {"split": r"layers/(\d+)/w", "to": [r"out/\1/q", r"out/\1/k"], "axis": 0},
            {"stack": "out", "axis": 2},
        ]
    }
    model = nnx.Dict(
        out=nnx.Dict(q=nnx.Param(jnp.zeros((3, 4, 2))), k=nnx.Param(jnp.zeros((3, 4, 2))))
    )
    report = load_linen(model, None, {"params": {"block": {"w": w}}}, rules)
    assert [row.by_rule for row in report.rows] == [True, True]
    both = np.stack([w[0].T, w[1].T], axis=2)
    assert np.array_equal(model.out.q[...], both[:3])
    assert np.array_equal(model.out.k[...], both[3:])
    tree, _ = dump_linen(model, None, rules)
    assert jax.tree.all(jax.tree.map(np.array_equal, tree, {"params": {"block": {"w": w}}}))


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("ema = 'average'\n[[rule]]\nconcat = ['a/w', 'b/w']\nto = 'c'\naxis = 0\n")
    rules = read_rules(file)
    assert rules.ema == "average"
    assert rules.inverse().rules[0].kind == "split"
    model = nnx.Dict(c=nnx.Param(jnp.zeros(4)))
    average = nnx.Dict(c=nnx.Param(jnp.zeros(4)))
    params = {"a": {"w": jnp.zeros(2)}, "b": {"w": jnp.ones(2)}}
    tree = {"params": params, "average": jax.tree.map(lambda x: x + 1, params)}
    load_linen(model, None, tree, file, ema=average)
    assert average.c[...].tolist() == [1, 1, 2, 2]
    back, _ = dump_linen(model, None, file, ema=average)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, tree))


def test_what_has_no_inverse_leaves_a_hole_that_is_named() -> None:
    model = nnx.Dict(a=nnx.Param(jnp.zeros(2)), new=nnx.Param(jnp.zeros(3)))
    rules = {"rule": [{"drop": "^old/"}, {"init": "^new$"}]}
    tree = {"params": {"a": jnp.ones(2), "old": {"w": jnp.ones(5)}}}
    report = load_linen(model, None, tree, rules)
    assert report.counts() == {"matched": 1, "initial": 1, "dropped": 1}
    with pytest.raises(ValueError, match="params/old/w"):
        dump_linen(model, None, rules, like=tree)


WRONG = {
    "no kind": ({"to": "x"}, "must have just one of rename"),
    "two kinds": ({"rename": "a", "drop": "b"}, "must have just one of rename"),
    "an option of another": ({"rename": "a", "to": "b", "axis": 1}, "has no option axis"),
    "a dot outside of a group": ({"rename": "a.b", "to": "c"}, "has '.' outside of a group"),
    "a group that is lost": ({"rename": r"a(\d)", "to": "b"}, "must repeat each of the 1 groups"),
    "a group in a group": ({"rename": "((a))", "to": r"\1"}, "a group in a group"),
    "an open group": ({"rename": "(a", "to": r"\1"}, "not closed"),
    "one part": ({"concat": ["a"], "to": "b"}, "several paths on one side"),
    "axes": ({"transpose": "a", "axes": [0, 2]}, "must name each axis once"),
    "a bad expression": ({"drop": "a("}, "rule 1 .drop."),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_rule_that_cannot_work_is_refused_when_it_is_read(name: str) -> None:
    table, text = WRONG[name]
    with pytest.raises(RuleError, match=text):
        read_rules({"rule": [table]})


UNFIT = {
    "two leaves in one place": ({"rename": "^(a|b)$", "to": r"c"}, "must repeat"),
    "onto another": (
        {"rename": "^a$", "to": "b"},
        "'b' becomes 'b', which the inverse takes to 'a'",
    ),
    "not turned round": ({"rename": "^a", "to": ""}, "which the inverse takes to"),
    "hits nothing": ({"rename": "^none$", "to": "x"}, "it fits no leaf"),
    "no such axis": ({"unstack": "a", "axis": 3}, "there is no axis 3"),
    "parts of other shapes": ({"concat": ["a", "b"], "to": "c"}, "of different shapes"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_rule_that_does_not_fit_says_so_and_changes_nothing(name: str) -> None:
    table, text = UNFIT[name]
    model = nnx.Dict(a=nnx.Param(jnp.zeros(2)), b=nnx.Param(jnp.zeros((3, 2))))
    tree = {"params": {"a": jnp.ones(2), "b": jnp.ones((3, 2))}}
    with pytest.raises(ValueError, match=text):
        load_linen(model, None, tree, {"rule": [table]})
    assert float(model.a[...].sum()) == 0
