"""Errors are part of the API: each says where, what was expected, what came, what to do."""

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers as nw

X = jnp.ones((2, 3))
RNGS = {"params": jax.random.key(0)}
BOX = nw.NNXMeta(nnx.BatchStat, jnp.ones(3), {"note": 1})


class Broken:
    """A value whose repr must never end up in (or break) an error."""

    def __repr__(self):
        raise RuntimeError("repr was called")


class NoCall(nnx.Module):
    def __init__(self, rngs=None):
        self.w = nnx.Param(jnp.ones(3))

    label = "no method"


class LinenNoCall(nn.Module):
    def other(self, x):
        return x


class Clash(nn.Module):
    """A Linen variable that would hide a method of ToNNX."""

    name_of_variable: str = "get_layers"

    @nn.compact
    def __call__(self, x):
        return x * self.param(self.name_of_variable, nn.initializers.ones, (3,))


class ClashBelow(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="train")(x)


def unregistered():
    return type("NeverRegistered", (nnx.Variable,), {})(jnp.ones(1))


def taken_name():
    """Two different Variable types of one name, the first with a collection."""
    first = type("SameName", (nnx.Variable,), {})
    second = type("SameName", (nnx.Variable,), {})

    class Model(nnx.Module):
        def __init__(self):
            self.one = first(jnp.ones(1))
            self.two = second(jnp.ones(1))

        def __call__(self):
            return 0

    nnx.variablelib.VariableTypeCache.pop("SameName", None)
    return nw.ToLinen(Model, skip_rng=True).init({})


def apply_conflicting():
    model = nw.ToLinen(nnx.Linear, args=(3, 3))
    return model.apply({"params": {"kernel": {"x": jnp.ones(3)}}}, X)


def prefix_at_apply():
    model = nw.ToLinen(nnx.Linear, args=(3, 3))
    return model.apply({"params": {"a": jnp.ones(1)}, "other": {"a": {"b": jnp.ones(1)}}}, X)


def ambiguous_at_apply():
    model = nw.ToLinen(nnx.Linear, args=(3, 3))
    return model.apply({"one": {"kernel": jnp.ones(1)}, "two": {"kernel": jnp.ones(1)}}, X)


def lazily(module, *args, **kwargs):
    return nw.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(*args, **kwargs)


def through_tuple():
    class Model(nnx.Module):
        def __init__(self):
            self.pair = nnx.data((nnx.Param(jnp.ones(1)),))

        def __call__(self):
            return 0

    model = nw.ToLinen(Model, skip_rng=True)
    return model.apply({"params": {"pair": {5: {"w": jnp.ones(1)}}}})


class Twice(nnx.Module):
    """One module in two places."""

    def __init__(self):
        self.a = self.b = NoCall()

    def __call__(self):
        return 0


def through_attribute(*path):
    class Model(nnx.Module):
        def __init__(self):
            self.act, self.depth, self.widths = jax.nn.initializers.ones, 3, [1, 2]
            self.layers = nnx.data([NoCall()])

        def __call__(self):
            return 0

    path = path if len(path) > 1 else (*path, "dense")
    tree = {"params": {path[0]: {path[1]: {"w": jnp.ones(1)}}}}
    return nw.ToLinen(Model, skip_rng=True).apply(tree)


NONE_OF_ALL = {
    "is_vanilla_variable": lambda: nw.is_vanilla_variable(None),
    "to_linen_var": lambda: nw.to_linen_var(None),
    "to_nnx_var": lambda: nw.to_nnx_var(None, None),
    "get_col_name": lambda: nw.get_col_name(None),
    "linen_vars_to_nnx_attrs": lambda: nw.linen_vars_to_nnx_attrs(None),
    "nnx_attrs_to_linen_vars": lambda: nw.nnx_attrs_to_linen_vars(None),
    "linen_rngs_dict": lambda: nw.linen_rngs_dict(None),
    "lazy_init": lambda: nw.lazy_init(None, X),
    "with_partitioning": lambda: nw.with_partitioning(None, ("a",)),
    "ToNNX": lambda: nw.ToNNX(None),
    "ToLinen": lambda: nw.ToLinen(None),
    "to_linen_class": lambda: nw.to_linen_class(None),
}


@pytest.mark.parametrize("name", NONE_OF_ALL)
def test_none_gets_the_sentence_that_any_wrong_input_gets(name):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected .*, got None\. [A-Z]"):
        NONE_OF_ALL[name]()


# (id, call, type of the error, pieces of its text: place, expected, got, remedy)
CASES = [
    ("vanilla of an array", lambda: nw.is_vanilla_variable(X), TypeError,
     ["is_vanilla_variable", "nnx.Variable", "ArrayImpl", "nnx.Param(value)"]),
    ("linen var of None", lambda: nw.to_linen_var(Broken()), TypeError,
     ["to_linen_var", "nnx.Variable", "an instance of Broken", "nnx.Param(value)"]),
    ("col name of a str", lambda: nw.get_col_name("params"), TypeError,
     ["get_col_name", "key path", "'params'", "tree_map_with_path"]),
    ("col name of an empty path", lambda: nw.get_col_name(()), ValueError,
     ["get_col_name", "begins with a collection", "an empty path", "leaf"]),
    ("col name of a sequence key", lambda: nw.get_col_name((jax.tree_util.SequenceKey(0),)),
     TypeError, ["get_col_name", "DictKey", "SequenceKey", "dict of collections"]),
    ("nnx var of a collection that is no str", lambda: nw.to_nnx_var(3, X), TypeError,
     ["to_nnx_var", "name of a collection", "int", "'params'"]),
    ("nnx var of a box of another type", lambda: nw.to_nnx_var("params", BOX), ValueError,
     ["to_nnx_var", "'params'", "the class BatchStat", "register_variable_name"]),
    ("attrs of a list", lambda: nw.linen_vars_to_nnx_attrs([1]), TypeError,
     ["linen_vars_to_nnx_attrs", "mapping of collections", "list", "module.init"]),
    ("attrs of a bare array", lambda: nw.linen_vars_to_nnx_attrs({"params": X}), TypeError,
     ["linen_vars_to_nnx_attrs, params", "mapping of variables", "ArrayImpl", "under a name"]),
    ("attrs of a collection that is no str", lambda: nw.linen_vars_to_nnx_attrs({1: {}}),
     TypeError, ["linen_vars_to_nnx_attrs, 1", "name of a collection", "int", "'params'"]),
    ("attrs with a duplicate path",
     lambda: nw.linen_vars_to_nnx_attrs({"params": {"a": {"b": X}}, "cache": {"a": {"b": X}}}),
     ValueError, ["a/b", "duplicate variable path", "cache/a/b", "params/a/b", "Rename"]),
    ("attrs with a prefix",
     lambda: nw.linen_vars_to_nnx_attrs({"params": {"a": {"b": X}}, "cache": {"a": X}}),
     ValueError, ["cache/a", "no prefix of another", "params/a/b", "Rename"]),
    ("attrs with a box that contradicts its collection",
     lambda: nw.linen_vars_to_nnx_attrs({"params": {"a": {"b": BOX}}}), ValueError,
     ["linen_vars_to_nnx_attrs, params/a/b", "Param", "BatchStat", "register_variable_name"]),
    ("linen vars of a Variable", lambda: nw.nnx_attrs_to_linen_vars(nnx.Param(X)), TypeError,
     ["nnx_attrs_to_linen_vars", "mapping of attributes", "Param", "nnx.state"]),
    ("linen vars of a type without a collection",
     lambda: nw.nnx_attrs_to_linen_vars({"a": {"b": unregistered()}}), ValueError,
     ["nnx_attrs_to_linen_vars, a/b", "collection name", "NeverRegistered",
      "register_variable_name"]),
    ("lazy_init of a function", lambda: nw.lazy_init(print, X), ValueError,
     ["lazy_init", "a method of an NNX Module", "builtin_function", "bound method"]),
    ("lazy_init of a Linen module", lambda: nw.lazy_init(nn.Dense(3), X), ValueError,
     ["lazy_init", "NNX module", "Dense", "ToNNX(module, rngs=rngs)"]),
    ("lazy_init of a module without __call__", lambda: nw.lazy_init(NoCall(), X), TypeError,
     ["lazy_init", "__call__", "NoCall", "lazy_init(module.encode, x)"]),
    ("rngs of an NNX module", lambda: nw.linen_rngs_dict(NoCall()), TypeError,
     ["linen_rngs_dict", "a Linen module", "NoCall", "self"]),
    ("rngs outside Linen", lambda: nw.linen_rngs_dict(nn.Dense(3)), ValueError,
     ["linen_rngs_dict", "bound", "unbound", "apply"]),
    ("ToNNX of a class", lambda: nw.ToNNX(nn.Dense), TypeError,
     ["ToNNX", "an instance of a Linen module", "the class Dense", "ToNNX(Dense(...)"]),
    ("ToNNX of an NNX module", lambda: nw.ToNNX(NoCall()), TypeError,
     ["ToNNX", "Linen module", "NoCall", "use it as it is"]),
    ("ToNNX of a number", lambda: nw.ToNNX(3), TypeError,
     ["ToNNX", "Linen module", "int", "flax.linen.Module"]),
    ("ToNNX with an integer seed", lambda: nw.ToNNX(nn.Dense(3), rngs=0), TypeError,
     ["ToNNX, rngs", "nnx.Rngs", "int", "rngs=nnx.Rngs(0)"]),
    ("call with rngs of a wrong type", lambda: lazily(nn.Dense(3), X)(X, rngs="key"), TypeError,
     ["ToNNX, rngs", "nnx.Rngs", "'key'", "rngs=nnx.Rngs(0)"]),
    ("call before lazy_init", lambda: nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))(X),
     flax.errors.ScopeParamNotFoundError,
     ['"kernel"', "ToNNX(Dense) has no variables yet", "lazy_init(module, *sample_inputs)"]),
    ("lazy_init without rngs", lambda: nw.ToNNX(nn.Dense(3)).lazy_init(X),
     flax.errors.InvalidRngError, ["params", "ToNNX(module, rngs=nnx.Rngs(0))"]),
    ("a Linen variable named as a method", lambda: lazily(Clash(), X), ValueError,
     ["ToNNX(Clash).lazy_init, params/get_layers", "shadow ToNNX.get_layers", "Rename"]),
    ("a Linen variable named as a property", lambda: lazily(Clash("rngs"), X), ValueError,
     ["params/rngs", "shadow ToNNX.rngs", "Rename"]),
    ("a Linen variable with a reserved name", lambda: lazily(Clash("to_nnx__rngs"), X),
     ValueError, ["params/to_nnx__rngs", "the wrapper's own attributes", "Rename"]),
    ("a Linen submodule named as a method", lambda: lazily(ClashBelow(), X), ValueError,
     ["params/train/bias", "shadow ToNNX.train", "Rename"]),
    ("a missing attribute before lazy_init",
     lambda: nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).kernel, AttributeError,
     ["'ToNNX' object has no attribute 'kernel'", "Dense", "lazy_init"]),
    ("a missing attribute", lambda: lazily(nn.Dense(3), X).nothing, AttributeError,
     ["'ToNNX' object has no attribute 'nothing'", "Dense"]),
    ("ToLinen of an instance", lambda: nw.ToLinen(nnx.Linear(3, 3, rngs=nnx.Rngs(0))), TypeError,
     ["ToLinen", "an NNX class", "an instance of Linear", "ToLinen(Linear, args=(...)"]),
    ("to_linen of an instance", lambda: nw.to_linen(NoCall()), TypeError,
     ["ToLinen", "an NNX class", "an instance of NoCall", "to_linen(NoCall, ...)"]),
    ("ToLinen of a Linen module", lambda: nw.ToLinen(nn.Dense(3)), TypeError,
     ["ToLinen", "NNX class", "Dense", "It is a Linen module already"]),
    ("ToLinen of a number", lambda: nw.ToLinen(3), TypeError,
     ["ToLinen", "NNX class", "int", "nnx.Linear"]),
    ("ToLinen of a callable that makes no module",
     lambda: nw.ToLinen(lambda rngs: 3).init(RNGS, X), TypeError,
     ["ToLinen", "an NNX module", "the integer 3", "Return the module"]),
    ("to_linen_class of something without a name", lambda: nw.to_linen_class(3), TypeError,
     ["to_linen_class", "NNX class", "int", "nnx.Linear"]),
    ("a method that does not exist",
     lambda: nw.ToLinen(NoCall).init(RNGS, nnx_method="encode"), AttributeError,
     ["ToLinen, NoCall", "a method of the NNX class", "'encode'", "nnx_method='name'"]),
    ("a class without __call__", lambda: nw.ToLinen(NoCall).init(RNGS), AttributeError,
     ["ToLinen, NoCall", "'__call__'", "nnx_method='name'"]),
    ("a method that is no method",
     lambda: nw.ToLinen(NoCall).init(RNGS, nnx_method="label"), TypeError,
     ["ToLinen, NoCall.label", "callable", "'no method'", "nnx_method='name'"]),
    ("a method of a wrong type", lambda: nw.ToLinen(NoCall).init(RNGS, nnx_method=3), TypeError,
     ["ToLinen, NoCall", "callable", "int", "nnx_method='name'"]),
    ("two Variable types of one name", taken_name, ValueError,
     ["ToLinen, two", "collection of its own", "SameName", "register_variable_name"]),
    ("variables below a Variable", apply_conflicting, ValueError,
     ["ToLinen.apply, params/kernel", "Param", "variables below it", "Rename"]),
    ("a prefix at apply", prefix_at_apply, ValueError,
     ["ToLinen.apply, params/a", "no prefix", "other/a/b", "Rename"]),
    ("a path in two foreign collections", ambiguous_at_apply, ValueError,
     ["ToLinen.apply, kernel", "one collection", "'one', 'two'", "Pass only"]),
    ("an unknown path through a tuple", through_tuple, ValueError,
     ["ToLinen.apply, pair/5/w", "element of a tuple", "the integer 5", "Remove the path"]),
    ("an unknown path through a function", lambda: through_attribute("act"), ValueError,
     ["ToLinen.apply, act/dense/w", "a module on the way", "function", "Remove the path"]),
    ("an unknown path through a number", lambda: through_attribute("depth"), ValueError,
     ["ToLinen.apply, depth/dense/w", "a module on the way", "the integer 3", "Remove the path"]),
    ("an unknown path through a method", lambda: through_attribute("__call__"), ValueError,
     ["ToLinen.apply, __call__/dense/w", "a module on the way", "function", "Remove the path"]),
    ("an unknown path through the class", lambda: through_attribute("__class__"), ValueError,
     ["ToLinen.apply, __class__/dense/w", "a module on the way", "Remove the path"]),
    ("an unknown path through a list that is no state", lambda: through_attribute("widths", 0),
     ValueError, ["ToLinen.apply, widths/0/w", "a module on the way", "list", "Remove the path"]),
    ("an unknown path below a Variable in its second place",
     lambda: nw.ToLinen(Twice, skip_rng=True).apply({"params": {"b": {"w": {"x": {"y": X}}}}}),
     ValueError, ["ToLinen.apply, b/w/x/y", "a module on the way", "Param", "Remove the path"]),
    ("an unknown path far beyond a list", lambda: through_attribute("layers", 2**70), ValueError,
     ["ToLinen.apply, layers/1180591620717411303424/w", "an index into a list", "the integer"]),
    ("an index of an axis beyond all arrays",
     lambda: nw.NNXMeta(nnx.Param, X, {"out_sharding": ("a",)}).remove_axis(2**62, {}), ValueError,
     ["NNXMeta.remove_axis", "index of an axis", str(2**62), "the array"]),
    ("plans switched by a number", lambda: nw.use_plans(1), TypeError,
     ["use_plans", "True or False", "the integer 1", "use_plans(True)"]),
    ("a recording switched by None", lambda: nw.record_usage(None), TypeError,
     ["record_usage", "True or False", "None", "record_usage(True)"]),
    ("arguments that are no sequence", lambda: nw.ToLinen(nnx.Linear, args=4).init(RNGS, X),
     TypeError, ["ToLinen, args", "a sequence", "the integer 4", "args=(...)"]),
    ("keyword arguments that are no mapping",
     lambda: nw.ToLinen(nnx.Linear, kwargs=3).init(RNGS, X), TypeError,
     ["ToLinen, kwargs", "a mapping", "the integer 3", "kwargs={...}"]),
    ("an augment function that is none",
     lambda: nw.ToLinen(nnx.Linear, (3, 3), nnx_module_augment_fn=3).init(RNGS, X), TypeError,
     ["ToLinen, nnx_module_augment_fn", "a function or None", "the integer 3", "-> module"]),
    ("a metadata function that is none",
     lambda: nw.ToLinen(nnx.Linear, (3, 3), metadata_fn=3).init(RNGS, X), TypeError,
     ["ToLinen, metadata_fn", "a function or None", "the integer 3", "of a Variable"]),
    ("ToLinen of a Linen class", lambda: nw.ToLinen(nn.Dense), TypeError,
     ["ToLinen", "NNX class", "the class Dense", "Use it as it is"]),
    ("functional of no class", lambda: nw.functional(None)(3, 3).init(), TypeError,
     ["functional", "an NNX class", "None", "functional(nnx.Linear)"]),
    ("an axis that is not there",
     lambda: nw.NNXMeta(nnx.Param, X, {"out_sharding": ("a", "b")}).remove_axis(
         0, {nn.PARTITION_NAME: "layers"}),
     ValueError, ["NNXMeta.remove_axis", "'layers'", "index 0", "'a'", "metadata_params"]),
    ("axis parameters of a wrong type", lambda: BOX.add_axis(0, ["layers"]), TypeError,
     ["NNXMeta.add_axis", "mapping", "list", "metadata_params"]),
    ("Functional.apply before init", lambda: nw.functional(nnx.Linear)(3, 3).apply({}),
     ValueError, ["Functional.apply", "initialized", "graphdef", "init(rngs=...)"]),
    ("with_partitioning of no initializer", lambda: nw.with_partitioning(3, ("a",)), TypeError,
     ["with_partitioning", "callable", "int", "lecun_normal"]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "pieces"), [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])  # fmt: skip
def test_wrong_input_gets_one_clear_sentence(call, error, pieces):
    with pytest.raises(error) as raised:
        call()
    text = str(raised.value)
    for piece in pieces:
        assert piece in text
    assert "\n" not in text


def test_a_partially_initialized_to_nnx_says_what_to_do():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return self.half(x) + self.param("b", nn.initializers.zeros, (3,))

        @nn.compact
        def half(self, x):
            return x * self.param("a", nn.initializers.ones, (3,))

    model = nw.ToNNX(Two(), rngs=nnx.Rngs(0))
    nw.lazy_init(model.half, X)
    with pytest.raises(
        flax.errors.ScopeParamNotFoundError, match=r'"b".*params/b: expected a Param, got nothing'
    ) as raised:
        model(X)
    assert type(raised.value) is flax.errors.ScopeParamNotFoundError


def test_not_initialized_is_caught_by_both_names_that_flax_uses():
    model = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    for error in (flax.errors.ScopeParamNotFoundError, flax.errors.ScopeCollectionNotFound):
        with pytest.raises(error):
            model(X)


def test_wrong_argument_counts_are_type_errors():
    for call in (nw.to_linen_var, nw.lazy_init, lambda: nw.to_nnx_var("params")):
        with pytest.raises(TypeError):
            call()


def test_a_box_without_what_its_type_needs_names_the_metadata():
    variable = nnx.Param(X, linen_meta_type=nn.LogicallyPartitioned)
    with pytest.raises(ValueError, match=r"LogicallyPartitioned.*out_sharding") as raised:
        nw.to_linen_var(variable)
    assert isinstance(raised.value.__cause__, KeyError)


def test_errors_of_user_code_arrive_unchanged():
    class Mine(Exception):
        pass

    def refuse(_):
        raise Mine("from metadata_fn")

    with pytest.raises(Mine, match="from metadata_fn"):
        nw.ToLinen(nnx.Linear, args=(3, 3), metadata_fn=refuse).init(RNGS, X)
