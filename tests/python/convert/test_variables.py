"""One variable and whole trees across the border, compared with Flax's conversions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict, meta
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from support.effort import examples
from support.oracle import assert_same, describe, ours, theirs
from support.versions import REF, SHARDING

pytestmark = [
    pytest.mark.filterwarnings("ignore:Variable hooks are deprecated:UserWarning"),
    pytest.mark.usefixtures("without_eager_sharding"),
]

flax_variables = theirs.variables
COLLECTIONS = ["params", "batch_stats", "cache", "intermediates", "perturbations", "own_name"]


def hook(variable, value):
    return value


class WithInit(nnx.Param):
    """A Variable type with a constructor of its own."""

    def __init__(self, value, *, tag="mine", **metadata):
        super().__init__(value, tag=tag, **metadata)


VARIABLES = {
    "plain": lambda: nnx.Param(jnp.ones(3)),
    "statistics": lambda: nnx.BatchStat(jnp.zeros((2, 2))),
    "metadata": lambda: nnx.Param(jnp.ones(3), note="mine", levels=(1, 2)),
    "empty hooks": lambda: nnx.Param(jnp.ones(3), my_hooks=()),
    "hooks": lambda: nnx.Param(jnp.ones(3), my_hooks=(hook,)),
    "set hook": lambda: nnx.Param(jnp.ones(3), on_set_value=hook),
    "sharding": lambda: nnx.Param(jnp.ones((2, 3)), **{SHARDING: ("a", "b")}),
    "linen box": lambda: nnx.Param(
        jnp.ones((2, 3)), mesh=None, linen_meta_type=nn.Partitioned, **{SHARDING: ("a", None)}
    ),
    "logical box": lambda: nnx.Param(
        jnp.ones((2, 3)),
        sharding_rules=(("a", "x"),),
        mesh=None,
        linen_meta_type=nn.LogicallyPartitioned,
        **{SHARDING: ("a", "b")},
    ),
    "numpy": lambda: nnx.Param(np.arange(3)),
    "number": lambda: nnx.Param(3.5),
    "none": lambda: nnx.Param(None),
    "tuple": lambda: nnx.Intermediate((jnp.ones(2), jnp.zeros(1))),
    "dict": lambda: nnx.Param({"b": jnp.ones(2), "a": 1}),
    "abstract": lambda: nnx.Param(jax.ShapeDtypeStruct((2,), jnp.float32)),
    "key": lambda: nnx.Variable(jax.random.key(0)),
    "own constructor": lambda: WithInit(jnp.ones(3)),
    "ref": lambda: nnx.Param(jnp.ones(3), **{REF: True}),
}


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_vanilla_is_judged_alike(name):
    variable = VARIABLES[name]()
    assert ours.is_vanilla_variable(variable) == flax_variables.is_vanilla_variable(variable)


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_to_linen_var_makes_the_same_leaf(name):
    variable = VARIABLES[name]()
    before = describe({"v": variable})
    assert_same({"v": ours.to_linen_var(variable)}, {"v": flax_variables.to_linen_var(variable)})
    assert describe({"v": variable}) == before


def test_a_box_type_without_from_nnx_metadata_is_built_from_its_fields():
    class Box(meta.AxisMetadata):
        def __init__(self, value, note=None):
            self.value, self.note = value, note

        def unbox(self):
            return self.value

        def replace_boxed(self, val):
            return Box(val, self.note)

        def add_axis(self, index, params):
            return self

        def remove_axis(self, index, params):
            return self

    variable = ours.to_nnx_var("params", Box(jnp.ones(2), note="kept"))
    assert variable.get_metadata("linen_meta_type") is Box
    box = ours.to_linen_var(variable)
    assert isinstance(box, Box)
    assert box.note == "kept"


BOXES = {
    "raw": lambda: jnp.ones(3),
    "numpy": lambda: np.ones(3),
    "number": lambda: 2.5,
    "none": lambda: None,
    "tuple": lambda: (jnp.ones(1), jnp.ones(2)),
    "partitioned": lambda: nn.Partitioned(jnp.ones((2, 3)), ("a", None)),
    "logical": lambda: nn.LogicallyPartitioned(jnp.ones(2), ("a",), rules=(("a", "x"),)),
    "key": lambda: jax.random.key(1),
}


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("name", sorted(BOXES))
def test_to_nnx_var_makes_the_same_variable(collection, name):
    mine = ours.to_nnx_var(collection, BOXES[name]())
    reference = flax_variables.to_nnx_var(collection, BOXES[name]())
    assert type(mine) is type(reference)
    assert_same({"v": mine}, {"v": reference})


@pytest.mark.parametrize("name", ["metadata", "sharding", "hooks", "set hook"])
def test_boxes_of_either_side_convert_on_the_other(name):
    variable = VARIABLES[name]()
    mine, reference = ours.to_linen_var(variable), flax_variables.to_linen_var(variable)
    assert isinstance(mine, ours.NNXMeta)
    assert type(reference) is theirs.NNXMeta
    again = [
        ours.to_nnx_var("params", mine),
        ours.to_nnx_var("params", reference),
        flax_variables.to_nnx_var("params", mine),
        flax_variables.to_nnx_var("params", reference),
    ]
    for other in again:
        assert_same({"v": other}, {"v": variable})


def test_a_new_collection_registers_one_type_for_both_sides():
    mine = ours.to_nnx_var("made_by_ours", jnp.ones(1))
    assert type(mine) is nnx.variable_type_from_name("made_by_ours")
    reference = flax_variables.to_nnx_var("made_by_flax", jnp.ones(1))
    assert type(ours.to_nnx_var("made_by_flax", jnp.ones(1))) is type(reference)


def test_class_hooks_are_kept_and_not_run():
    class Hooked(nnx.Variable):
        ran = 0

        def on_create_value(self, value):
            Hooked.ran += 1
            return value + 1

    nnx.register_variable_name("hooked_collection", Hooked, overwrite=True)
    variable = ours.to_nnx_var("hooked_collection", jnp.zeros(2))
    assert Hooked.ran == 0
    assert_same(variable.get_raw_value(), jnp.zeros(2))
    reference = flax_variables.to_nnx_var("hooked_collection", jnp.zeros(2))
    assert set(variable.get_metadata()) == set(reference.get_metadata())


@pytest.mark.parametrize(
    "path",
    [
        (jax.tree_util.DictKey("params"),),
        (jax.tree_util.DictKey("params"), jax.tree_util.DictKey("w")),
        [jax.tree_util.DictKey(3), jax.tree_util.SequenceKey(0)],
    ],
)
def test_the_collection_is_the_head_of_a_path(path):
    assert ours.get_col_name(path) == flax_variables.get_col_name(path)


def test_with_partitioning_makes_the_same_initializer():
    def variable(bridge):
        init = bridge.with_partitioning(nnx.initializers.ones_init(), ("in", "out"))
        return nnx.Param(init(jax.random.key(0), (2, 3)))

    assert_same({"v": variable(ours)}, {"v": variable(theirs)})
    assert isinstance(ours.to_linen_var(variable(ours)), nn.Partitioned)


# --- whole trees ---------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["a", "b", "kernel", "layers_0", "naïve", "with/slash", "with space", "0"]),
    st.sampled_from(["", "items", "__call__", "set_attributes", "value"]),
    st.text(min_size=1, max_size=4),
)
leaves = st.sampled_from(sorted(BOXES))


def trees(leaf, *numbers):
    """Each level is named by strings, or by `numbers`: JAX orders no level that has both."""

    def level(below):
        return st.one_of(
            st.dictionaries(keys, below, min_size=1, max_size=3) for keys in (names, *numbers)
        )

    return st.recursive(level(leaf), lambda below: level(st.one_of(leaf, below)), max_leaves=6)


def build(tree):
    return {k: build(v) if isinstance(v, dict) else BOXES[v]() for k, v in tree.items()}


collections = st.dictionaries(
    st.sampled_from(COLLECTIONS), trees(leaves, st.integers(-1, 9)), max_size=3
)


def top_names_disjoint(variables):
    """Collections under names of their own, so that no two paths meet."""
    return {c: {f"{c}_{i}": v for i, v in enumerate(t.values())} for c, t in variables.items()}


@given(collections)
@settings(max_examples=examples(60), deadline=None)
def test_trees_convert_alike_and_back(tree):
    variables = top_names_disjoint({c: build(t) for c, t in tree.items()})
    copy = top_names_disjoint({c: build(t) for c, t in tree.items()})
    attrs = ours.linen_vars_to_nnx_attrs(variables)
    assert describe(variables) == describe(copy)  # nothing given was changed
    reference = flax_variables.linen_vars_to_nnx_attrs(copy)
    assert_same(attrs, reference)
    assert_same(
        ours.nnx_attrs_to_linen_vars(attrs), flax_variables.nnx_attrs_to_linen_vars(reference)
    )


@given(collections)
@settings(max_examples=examples(60), deadline=None)
def test_the_two_conversions_are_inverses(tree):
    variables = top_names_disjoint({c: build(t) for c, t in tree.items()})
    reference = top_names_disjoint({c: build(t) for c, t in tree.items()})
    again = ours.nnx_attrs_to_linen_vars(ours.linen_vars_to_nnx_attrs(variables))
    assert_same(again, reference)


@given(st.dictionaries(st.sampled_from(COLLECTIONS), trees(leaves), min_size=2, max_size=3))
@settings(max_examples=examples(60), deadline=None)
def test_meeting_paths_are_refused_whenever_flax_would_lose_or_refuse_them(tree):
    variables = {c: build(t) for c, t in tree.items()}
    paths = [tuple(k.key for k in path[1:]) for path, _ in flat(variables)]
    meets = any(
        p == q[: len(p)] for i, p in enumerate(paths) for j, q in enumerate(paths) if i != j
    )
    if meets:
        with pytest.raises(ValueError, match="linen_vars_to_nnx_attrs"):
            ours.linen_vars_to_nnx_attrs(variables)
    else:
        assert_same(
            ours.linen_vars_to_nnx_attrs(variables),
            flax_variables.linen_vars_to_nnx_attrs({c: build(t) for c, t in tree.items()}),
        )


def flat(variables):
    return jax.tree_util.tree_leaves_with_path(variables, is_leaf=lambda x: not isinstance(x, dict))


def test_frozen_trees_are_read_as_plain_ones():
    variables = {"params": {"a": {"b": jnp.ones(2)}}}
    expected = ours.linen_vars_to_nnx_attrs(variables)
    assert_same(ours.linen_vars_to_nnx_attrs(FrozenDict(variables)), expected)
    assert_same(ours.linen_vars_to_nnx_attrs({"params": FrozenDict(variables["params"])}), expected)


def test_states_are_read_as_mappings():
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    state = nnx.state(model)
    assert_same(ours.nnx_attrs_to_linen_vars(state), flax_variables.nnx_attrs_to_linen_vars(state))


def test_numbers_and_strings_may_name_one_level():
    """Flax refuses such a level, since JAX cannot order it."""
    tree = {"params": {"a": {0: jnp.ones(1), "x": jnp.ones(2)}}, "cache": {"a": {1: jnp.ones(3)}}}
    with pytest.raises(ValueError, match="Comparator raised exception"):
        flax_variables.linen_vars_to_nnx_attrs(tree)
    attrs = ours.linen_vars_to_nnx_attrs(tree)
    assert {name: type(v) for name, v in attrs["a"].items()} == {
        0: nnx.Param,
        "x": nnx.Param,
        1: nnx.Cache,
    }
    leaves = flatten_dict(ours.nnx_attrs_to_linen_vars(attrs))
    expected = flatten_dict(tree)
    assert set(leaves) == set(expected)
    assert all(leaves[path] is expected[path] for path in expected)


def test_empty_levels_are_dropped():
    assert ours.linen_vars_to_nnx_attrs({"params": {"a": {}}, "cache": {}}) == {}
    assert ours.nnx_attrs_to_linen_vars({"a": {"b": {}}}) == {}


def test_a_deep_tree_is_a_recursion_error_and_no_crash():
    tree: dict = {"w": jnp.ones(1)}
    for _ in range(100_000):
        tree = {"a": tree}
    with pytest.raises(RecursionError):
        ours.linen_vars_to_nnx_attrs({"params": tree})
    with pytest.raises(RecursionError):
        ours.nnx_attrs_to_linen_vars(tree)
    while tree.get("a"):  # freed level by level
        tree = tree["a"]
