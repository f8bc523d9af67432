"""Layers with an augment function: those for which it does nothing share a plan, and all are what
the constructor and the function make, bit for bit."""

import dataclasses
import functools
import gc
import inspect
import sys
import traceback
import types
import typing as tp
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from plans.test_repeated_calls import staged
from support.oracle import assert_same, ours
from support.planning import COUNTS, LOG, plans, without_plans

X = jnp.arange(6.0).reshape(2, 3)
KEYS = {name: jax.random.key(seed) for seed, name in enumerate(("params", "dropout"))}
NAMES = ("a", "bb", "ccc", "dddd")

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


class Config:
    """What layers are told; a test may change it."""

    def __init__(self) -> None:
        self.mode = False
        self.scale = 1.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    number: int


class Layer(nnx.Module):
    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        LOG.info("made")
        self.config = config
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.norm = nnx.LayerNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.count = nnx.BatchStat(jnp.zeros(()))
        self.sizes = nnx.static([1, 2])
        self.table = np.arange(3.0)
        self.left, self.right = nnx.static([1]), nnx.static([1])
        shift = rngs.params.normal((3,))
        self.shift = lambda x: x + shift
        self.one, self.same = nnx.Param(shift), nnx.Param(shift)
        self.function = lambda x: x * scale
        scale = 1.0
        self.partial = functools.partial(dict, number=1)
        self.compiled = COMPILED
        self.frozen = Frozen(1)
        self.library = LIBRARY
        self.registry = nnx.static(REGISTRY)

    def __call__(self, x: jax.Array) -> tp.Any:
        self.count[...] += 1
        extra = getattr(self, "extra", None)
        x = self.shift(self.norm(self.linear(x))) + self.table
        x = self.function(self.drop(x, deterministic=True))
        self.left.append(2)
        kept = (
            *self.left, *self.right, *self.partial().items(), *vars(self.function).items(),
            getattr(self.compiled, "note", None), *vars(self.frozen).items(), REGISTRY["mode"],
        )  # fmt: skip
        return {
            "x": x if extra is None else x + extra[...],
            "sizes": list(self.sizes),
            "note": (getattr(self, "note", ""), kept),
        }


COMPILED = jax.jit(lambda x: x)


class Other(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((3,)))

    def __call__(self, x: jax.Array) -> tp.Any:
        return {"x": x * self.w, "sizes": [], "note": "other"}


LIBRARY = types.ModuleType("library")
LIBRARY.MODE = 0
REGISTRY = {"mode": 0}
COUNT = [0]
its_locals, evaluate = locals, eval

SEEN: list[tp.Any] = []
MADE: "weakref.WeakSet[nnx.Module]" = weakref.WeakSet()
RATES = {"a": 1.0}


def nothing(module, name):
    return module


def asks_config(module, name):
    if not getattr(module.config, "mode", False):
        return module
    module.note = name
    return module


def reads_name(module, name):
    return module if name is not None and name.isidentifier() else None


def reads_name_in_closure(module, name):
    return module if (lambda: len(name))() < 100 else None


def reads_name_by_locals(module, name):
    if locals()["name"] == "bb":
        module.note = "bb"
    return module


def reads_name_by_vars(module, name):
    module.note = vars()["name"]
    return module


def caller_name():
    return inspect.currentframe().f_back.f_locals["name"]


def reads_name_by_frame(module, name):
    if caller_name() == "ccc":
        module.note = "c"
    return module


def reads_name_by_eval(module, name):
    module.note = eval("name")
    return module


def deletes_name(module, name):
    del name
    return module


def overwrites_name(module, name):
    name = "x"
    module.note = name
    return module


def of_one_name(module, name):
    if name == "bb":
        module.extra = nnx.Param(jnp.ones(3))
    return module


def depends_on_name(module, name):
    module.extra = nnx.Param(jnp.full(3, float(len(name or ""))))
    return module


def appends(module, name):
    module.sizes.append(len(name))
    return module


def appends_a_constant(module, name):
    module.sizes.append(3)
    return module


def writes_into_array(module, name):
    module.table[0] = len(name)
    return module


def sets_value(module, name):
    module.count[...] = jnp.ones(()) * 2
    return module


def sets_metadata(module, name):
    module.linear.kernel.set_metadata(note=len(name))
    return module


def replaces_closure(module, name):
    inner = module.shift
    module.shift = lambda x: inner(x) * 2
    return module


def replaces_layer(module, name):
    module.linear = nnx.Linear(3, 3, rngs=nnx.Rngs(params=module.drop.rngs()))
    return module


def shares(module, name):
    module.norm.scale = module.norm.bias
    return module


def reorders(module, name):
    linear = module.linear
    del module.linear
    module.linear = linear
    return module


def changes_class(module, name):
    module.__class__ = type("Named", (Layer,), {"__call__": Other.__call__})
    module.w = nnx.Param(jnp.ones(3))
    return module


def draws(module, name):
    module.extra = nnx.Param(module.drop.rngs.normal((3,)))
    return module


def draws_and_forgets(module, name):
    module.drop.rngs()
    return module


def makes_another(module, name):
    return Other(nnx.Rngs(params=module.drop.rngs()))


def wraps(module, name):
    return nnx.Sequential(module)


def computes_in_vain(module, name):
    jnp.sum(module.linear.kernel[...])
    return module


def logs(module, name):
    LOG.info("augmented")
    return module


def logs_name(module, name):
    LOG.info("augmented %s", name)
    return module


def remembers(module, name):
    SEEN.append(name)
    return module


def registers(module, name):
    MADE.add(module)
    return module


def calls_back(module, name):
    jax.debug.callback(lambda _: SEEN.append(1), jnp.ones(()))
    return module


def asks_a_value(module, name):
    if float(jnp.sum(module.linear.kernel[...])) > 1e9:
        module.note = "large"
    return module


def fails(module, name):
    if name == "ccc":
        raise LookupError("not this one")
    return module


def rate(module, name):
    if RATES["a"] != 1.0:
        module.note = str(RATES["a"])
    return module


def aliases(module, name):
    module.right = nnx.static(module.left)
    return module


def aliases_metadata(module, name):
    module.linear.kernel.set_metadata(left=module.left, right=module.left)
    return module


def marks_function(module, name):
    module.function.tag = name
    return module


def replaces_defaults(module, name):
    module.function.__defaults__ = (jnp.ones(3),)
    return module


def fills_cell(module, name):
    module.function.__closure__[0].cell_contents = float(len(name))
    return module


def changes_partial(module, name):
    module.partial.keywords["number"] = len(name)
    return module


def marks_compiled(module, name):
    module.compiled.note = name
    return module


def changes_frozen(module, name):
    object.__setattr__(module.frozen, "extra", name)
    return module


def asks_whether_tied(module, name):
    if module.one.get_raw_value() is module.same.get_raw_value():
        module.note = "tied"
    return module


def asks_library(module, name):
    if module.library.MODE:
        module.note = "on"
    return module


def writes_into_registry(module, name):
    module.registry["mode"] = 1
    return module


def counts(module, name):
    COUNT[0] += 1
    module.note = COUNT[0]
    return module


def counts_one_name(module, name):
    if name == "bb":
        COUNT[0] += 1
        module.note = COUNT[0]
    return module


def reads_name_by_alias(module, name):
    if its_locals()["name"] == "bb":
        module.note = "bb"
    return module


def reads_name_by_alias_of_eval(module, name):
    if evaluate("name") == "bb":
        module.note = "bb"
    return module


def reads_name_by_traceback(module, name):
    try:
        raise ValueError
    except ValueError as error:
        found = traceback.TracebackException.from_exception(error, capture_locals=True)
    if "name = 'bb'" in "".join(found.format()):
        module.note = "bb"
    return module


class Method:
    def __init__(self, name: str) -> None:
        self.name = name

    def augment(self, module, name):
        if name == self.name:
            module.note = name
        return module

    def __call__(self, module, name):
        return self.augment(module, name)


def with_keyword(module, name, *, other="bb"):
    if name == other:
        module.note = name
    return module


def by_star(*both):
    if both[1] == "bb":
        both[0].note = "bb"
    return both[0]


FUNCTIONS: dict[str, tp.Callable[..., tp.Any]] = {
    function.__name__: function
    for function in (
        nothing, asks_config, reads_name, reads_name_in_closure, reads_name_by_locals,
        reads_name_by_vars, reads_name_by_frame, reads_name_by_eval, deletes_name,
        overwrites_name, of_one_name, depends_on_name, appends, appends_a_constant,
        writes_into_array, sets_value, sets_metadata, replaces_closure, replaces_layer, shares,
        reorders, changes_class, draws, draws_and_forgets, makes_another, wraps,
        computes_in_vain, logs, logs_name, remembers, registers, calls_back, asks_a_value, fails,
        rate, with_keyword, by_star, aliases, aliases_metadata, marks_function,
        replaces_defaults, fills_cell, changes_partial, marks_compiled, changes_frozen,
        asks_whether_tied, asks_library, writes_into_registry, counts, counts_one_name,
        reads_name_by_alias, reads_name_by_alias_of_eval, reads_name_by_traceback)
} | {
    "method": Method("bb").augment,
    "object": Method("bb"),
    "partial": functools.partial(with_keyword, other="ccc"),
    "lambda": lambda module, name: module,
}  # fmt: skip

# They find nothing to do, and do not read the name: layers of all names share one plan.
OF_ALL = ("nothing", "asks_config", "logs", "computes_in_vain", "rate", "lambda")


class Named(nn.Module):
    function: tp.Callable[..., tp.Any]
    config: Config

    @nn.compact
    def __call__(self, x):
        make = functools.partial(
            ours.ToLinen, Layer, args=(self.config,), nnx_module_augment_fn=self.function
        )
        return [make(name=name)(x) for name in NAMES]


def outcome(call: tp.Callable[[], tp.Any]) -> tp.Any:
    try:
        return call()
    except Exception as error:  # the same one either way
        return type(error).__name__, str(error)


def programs(model: nn.Module) -> list[tp.Any]:
    """What `init` and `apply` give, staged and not, with all variables, with some and with none."""

    def in_trace(function: tp.Callable[..., tp.Any], *args: tp.Any) -> tp.Any:
        notes = []

        def traced(*args):
            out, variables = function(*args)
            notes.append([(part.pop("sizes"), part.pop("note")) for part in out])
            return out, variables

        return outcome(lambda: (staged(traced, *args), notes))

    SEEN.clear()
    MADE.clear()
    COUNT[0] = REGISTRY["mode"] = 0
    vars(COMPILED).pop("note", None)
    found = []
    apply = functools.partial(model.apply, mutable=True)
    made = outcome(lambda: model.init(KEYS, X))
    variables = made if isinstance(made, dict) else {}
    for mode in range(2):
        LIBRARY.MODE, REGISTRY["mode"] = mode, 0
        found.append(in_trace(lambda keys: model.init_with_output(keys, X), KEYS))
        found.append(in_trace(lambda v: apply(v, X), variables))
        found.append(outcome(lambda: apply(variables, X)))
        found.append(in_trace(lambda keys: apply({}, X, rngs=keys), KEYS))
    jax.effects_barrier()
    gc.collect()
    return [made, *found, sorted(map(str, SEEN)), COUNT[0]]


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_layers_are_what_constructor_and_function_make(kind):
    model = Named(FUNCTIONS[kind], Config())
    with without_plans():
        expected = programs(model)
    assert_same(programs(model), expected)
    assert_same(programs(model), expected)


@pytest.mark.feature("plans")
@pytest.mark.feature("repeated_calls")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
@pytest.mark.parametrize("kind", OF_ALL)
def test_layers_of_all_names_share_a_plan(kind):
    model = Named(FUNCTIONS[kind], Config())
    variables = model.init(KEYS, X)
    before = COUNTS["made"]
    jax.eval_shape(lambda v: model.apply(v, X, mutable=True)[1], variables)
    assert COUNTS["made"] == before + 1
    assert plans()["hits"] == len(NAMES) - 1
    jax.eval_shape(lambda keys: model.init(keys, X), KEYS)
    assert COUNTS["made"] == before + 2  # one is recorded, and its plan makes the others


@pytest.mark.feature("plans")
def test_a_function_that_works_is_part_of_the_plan_of_its_name():
    model = Named(depends_on_name, Config())
    variables = model.init(KEYS, X)
    for _ in range(2):
        before = COUNTS["made"]
        jax.eval_shape(lambda v: model.apply(v, X, mutable=True)[1], variables)
    assert COUNTS["made"] == before
    assert plans()["hits"] == len(NAMES)


def test_what_the_function_reads_is_seen():
    config = Config()
    model = Named(asks_config, config)
    variables = model.init(KEYS, X)
    for mode in (False, False, True, True, False):
        config.mode = mode
        notes = [part["note"][0] for part in model.apply(variables, X, mutable=True)[0]]
        assert notes == (list(NAMES) if mode else [""] * len(NAMES))

    model = Named(rate, Config())
    try:
        for value in (1.0, 1.0, 2.0, 1.0, 2.0):
            RATES["a"] = value
            notes = [part["note"][0] for part in model.apply(variables, X, mutable=True)[0]]
            assert notes == ([""] if value == 1.0 else [str(value)]) * len(NAMES)
    finally:
        RATES["a"] = 1.0


def test_the_classes_of_two_functions_have_plans_of_their_own():
    for _ in range(2):
        for function in (nothing, depends_on_name, rate, of_one_name):
            model = Named(function, Config())
            variables = model.init(KEYS, X)
            with without_plans():
                expected = model.apply(variables, X, mutable=True)
            assert_same(model.apply(variables, X, mutable=True), expected)
