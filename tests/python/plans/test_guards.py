"""What a plan depends on is compared at each use, and no code of the user runs for that."""

import cProfile
import gc
import sys
import threading
import types
import weakref

import coverage
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import ours
from support.planning import COUNTS, LOG, plans, reasons

X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(0)

pytestmark = [pytest.mark.feature("plans"), pytest.mark.usefixtures("fresh_caches")]


class Config:
    rate = 2.0


class Net(nnx.Module):
    def __init__(self, config, rngs):
        LOG.info("net")
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        self.rate = config.rate

    def __call__(self, x):
        return self.linear(x) * self.rate


VARIABLES = ours.ToLinen(Net, args=(Config(),)).init(KEY, X)


def factor(model):
    """The factor by which the model multiplies."""
    y = model.apply(VARIABLES, X)
    return round(float(y[0, 0] / (X @ VARIABLES["params"]["linear"]["kernel"])[0, 0]), 4)


def factor_for(config, net=Net):
    return factor(ours.ToLinen(net, args=(config,)))


def test_a_change_is_named():
    config = Config()
    for rate in (2.0, 3.0):
        config.rate = rate
        assert factor_for(config) == rate
    assert plans()["rebuilt"] == {"config.rate": 1}


def test_a_constructor_that_alternates_keeps_both_plans():
    config = Config()
    for rate in (2.0, 3.0) * 2:
        config.rate = rate
        assert factor_for(config) == rate
    before = COUNTS["net"]
    for rate in (2.0, 3.0) * 4:
        config.rate = rate
        assert factor_for(config) == rate
    assert COUNTS["net"] == before


def test_an_equal_number_is_no_change():
    config = Config()
    config.rate = float("1.5")
    assert factor_for(config) == 1.5
    before = COUNTS["net"]
    for _ in range(2):
        config.rate = float("1.5")
        assert factor_for(config) == 1.5
    assert COUNTS["net"] == before


@pytest.mark.parametrize(("before", "after"), [(0.0, -0.0), (1, True), (1, 1.0)], ids=str)
def test_equal_numbers_that_are_not_the_same_are_told_apart(before, after):
    class Says(nnx.Module):
        def __init__(self, config, rngs):
            self.text = repr(config.rate)

        def __call__(self):
            return self.text

    config = Config()
    for rate in (before, after):
        config.rate = rate
        assert ours.ToLinen(Says, args=(config,)).apply({}) == repr(rate)


def test_a_constructor_whose_plans_never_hold_is_planned_no_more():
    config = Config()
    for number in range(20):
        config.step = number
        assert factor_for(config) == 2.0
    assert reasons() == "config.step changes from call to call"
    before = COUNTS["net"]
    assert factor_for(config) == 2.0
    assert COUNTS["net"] == before + 1


def test_many_states_that_come_back_go_on_being_planned():
    config = Config()
    for number in range(40):
        config.rate = float(number % 4 + 1)
        before = COUNTS["net"]
        assert factor_for(config) == config.rate
        assert COUNTS["net"] == before or number < 8
    assert reasons() == ""


def test_no_code_of_the_user_s_runs_when_guards_are_compared():
    ran = []

    class Odd:
        rate = 2.0

        def __getattr__(self, name):
            ran.append(name)
            raise AttributeError(name)

        def __eq__(self, other):
            ran.append("==")
            raise ValueError("mine")

        def __hash__(self):
            ran.append("hash")
            raise ValueError("mine")

        def __bool__(self):
            ran.append("bool")
            raise ValueError("mine")

        def __iter__(self):
            ran.append("iter")
            raise ValueError("mine")

        __len__ = __bool__

        @property
        def other(self):
            ran.append("property")
            raise ValueError("mine")

    config = Odd()
    config.inner = Odd()
    factor_for(config)
    ran.clear()
    assert factor_for(config) == 2.0
    assert plans()["hits"] > 0
    assert ran == []


def planned_and_dropped():
    """References to what a plan was made from, which nobody else holds."""
    config = Config()
    inner = config.inner = Config()
    config.function = lambda: inner
    factor_for(config)
    assert plans()["size"] > 0
    return [weakref.ref(config), weakref.ref(inner), weakref.ref(config.function)]


def test_a_plan_keeps_no_object_alive():
    references = planned_and_dropped()
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_a_new_object_at_an_old_address_is_no_old_one():
    """Most of them come at the address of one that is gone, but not where memory is sanitized."""
    for number in range(200):
        config = Config()
        config.rate = float(number + 1)
        assert factor_for(config) == number + 1
        del config


def test_a_plan_of_a_slot_sees_a_new_object_at_an_old_address():
    class Slots:
        __slots__ = ("rate",)

    holder = Config()
    for number in range(50):
        holder.inner = Slots()
        holder.inner.rate = float(number + 1)

        class Reads(Net):
            def __init__(self, config, rngs):
                self.linear = nnx.Linear(3, 3, rngs=rngs)
                self.rate = config.inner.rate

        assert factor_for(holder, Reads) == number + 1


def test_a_tracer_among_what_is_read_is_not_planned():
    config = Config()

    def run(rate):
        config.rate = rate
        y = ours.ToLinen(Net, args=(config,)).apply(VARIABLES, X)
        config.rate = None
        return y

    with jax.checking_leaks():
        twice = jax.jit(run)(2.0)
    expected = jax.jit(lambda r: X @ VARIABLES["params"]["linear"]["kernel"] * r)(2.0)
    np.testing.assert_allclose(twice, expected, rtol=1e-6)
    assert plans()["hits"] == 0


def test_too_much_to_compare_is_not_planned():
    config = Config()
    config.values = [object() for _ in range(60_000)]
    assert factor_for(config) == 2.0
    assert "too much to compare" in reasons()


def test_an_object_with_a_hidden_state_is_not_planned():
    config = Config()
    config.view = memoryview(bytearray(b"ab"))
    assert factor_for(config) == 2.0
    assert "config.view (memoryview)" in reasons()


def test_what_the_augment_function_depends_on_is_seen():
    rates = {"a": 2.0}

    def augment(module, name):
        module.rate = rates["a"]
        return module

    def model():
        return ours.ToLinen(Net, args=(config,), nnx_module_augment_fn=augment)

    config = Config()
    for rate in (2.0, 2.0, 3.0):
        rates["a"] = rate
        assert factor(model()) == rate
    assert plans()["hits"] > 0


def test_fields_that_a_class_has_fixed_are_seen():
    config = Config()
    made = ours.to_linen_class(Net, config=config)
    for rate in (2.0, 2.0, 3.0):
        config.rate = rate
        assert factor(made()) == rate
    assert plans()["hits"] > 0


def test_a_planned_call_inside_a_constructor_is_part_of_it():
    inner = Config()

    class Outer(nnx.Module):
        def __init__(self, config, rngs):
            self.linear = nnx.Linear(3, 3, rngs=rngs)
            self.rate = factor_for(inner)

        def __call__(self, x):
            return self.linear(x) * self.rate

    factor_for(inner)
    for rate in (2.0, 3.0):
        inner.rate = rate
        model = ours.ToLinen(Outer, args=(Config(),))
        np.testing.assert_allclose(
            model.apply(VARIABLES, X),
            X @ VARIABLES["params"]["linear"]["kernel"] * rate,
            rtol=1e-6,
        )


# ---- threads -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["attribute", "dict", "list", "class"])
def test_threads_see_the_old_answer_or_the_new_one(kind):
    class Own:
        rate = 2.0

    config = Own()
    config.rates, config.parts = {"a": 2.0}, [2.0]

    class Reads(Net):
        def __init__(self, config, rngs):
            self.linear = nnx.Linear(3, 3, rngs=rngs)
            read = {
                "attribute": lambda: config.rate,
                "dict": lambda: config.rates["a"],
                "list": lambda: config.parts[0],
                "class": lambda: Own.rate,
            }
            self.rate = read[kind]()

    def write(rate):
        if kind == "attribute":
            config.rate = rate
        elif kind == "dict":
            config.rates["a"] = rate
        elif kind == "list":
            config.parts[0] = rate
        else:
            Own.rate = rate

    stop = threading.Event()
    seen, errors = set(), []

    def apply():
        try:
            for _ in range(6):
                seen.add(factor_for(config, Reads))
        except BaseException as error:
            errors.append(error)

    def change():
        while not stop.is_set():
            write(3.0)
            write(2.0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    changing = threading.Thread(target=change)
    try:
        changing.start()
        threads = [threading.Thread(target=apply) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        changing.join()
        sys.setswitchinterval(interval)
    assert errors == []
    assert seen <= {2.0, 3.0}
    for rate in (2.0, 3.0, 2.0):
        write(rate)
        assert factor_for(config, Reads) == rate


# ---- the remembered shape check ----------------------------------------------------------

SIZE = 3
SIZES = {"a": 3}


class Sized:
    size = 3


def by_global(key, shape):
    return jnp.ones((*shape, SIZE))


def by_dict(key, shape):
    return jnp.ones((*shape, SIZES["a"]))


def by_class(key, shape):
    return jnp.ones((*shape, Sized.size))


def by_default(key, shape, size=3):
    return jnp.ones((*shape, size))


def by_attribute(key, shape):
    return jnp.ones((*shape, by_attribute.size))


by_attribute.size = 3


def change(kind, size):
    global SIZE
    if kind is by_global:
        SIZE = size
    elif kind is by_dict:
        SIZES["a"] = size
    elif kind is by_class:
        Sized.size = size
    elif kind is by_default:
        by_default.__defaults__ = (size,)
    else:
        by_attribute.size = size


@pytest.mark.parametrize("init", [by_global, by_dict, by_class, by_default, by_attribute])
def test_a_shape_check_does_not_outlive_what_it_was_made_from(init):
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x @ self.param("w", init, (3,))

    try:
        model = ours.ToNNX(Linen(), rngs=nnx.Rngs(0)).lazy_init(X)
        for _ in range(3):
            model(X)
        assert ours.cache_info()["shape_checks"]["hits"] > 0
        change(init, 4)
        with pytest.raises(flax.errors.ScopeParamShapeError):
            model(X)
    finally:
        change(init, 3)
    model(X)


# ---- profilers, debuggers, tools ---------------------------------------------------------


def build_plan():
    ours.clear_caches()
    factor_for(Config())
    assert reasons() == ""
    factor_for(Config())


def test_a_profile_function_sees_the_constructor_while_a_plan_is_made():
    seen = []

    def profile(frame, event, argument):
        if frame.f_code is Net.__init__.__code__:
            seen.append((event, getattr(argument, "__name__", None)))

    sys.setprofile(profile)
    try:
        build_plan()
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)
    assert seen[0][0] == "call"
    assert seen[-1][0] == "return"


def test_a_trace_function_sees_each_line_while_a_plan_is_made():
    lines = []

    def trace(frame, event, argument):
        if frame.f_code is Net.__init__.__code__:
            lines.append((event, frame.f_lineno))
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        build_plan()
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert {event for event, _ in lines} == {"call", "line", "return"}


def test_a_profiler_counts_the_constructor_while_a_plan_is_made():
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        build_plan()
    finally:
        profiler.disable()
    entries = {entry.code: entry.callcount for entry in profiler.getstats()}
    assert entries[Net.__init__.__code__] >= 1


def test_coverage_sees_each_line_while_a_plan_is_made(tmp_path):
    source = tmp_path / "covered_module.py"
    source.write_text(
        "from flax import nnx\n"
        "class Covered(nnx.Module):\n"
        "    def __init__(self, config, rngs):\n"
        "        self.linear = nnx.Linear(3, 3, rngs=rngs)\n"
        "        self.rate = config.rate\n"
        "    def __call__(self, x):\n"
        "        return self.linear(x) * self.rate\n"
    )
    measured = coverage.Coverage(data_file=None, include=[str(source)])
    sys.path.insert(0, str(tmp_path))
    measured.start()
    try:
        import covered_module

        assert factor_for(Config(), covered_module.Covered) == 2.0
    finally:
        measured.stop()
        sys.path.remove(str(tmp_path))
    _, statements, missing, _ = measured.analysis(str(source))
    assert statements
    assert missing == []
    assert reasons() == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_a_tool_of_sys_monitoring_sees_the_constructor_while_a_plan_is_made():
    monitoring = sys.monitoring
    tool, seen = 4, []
    before = [monitoring.get_tool(number) for number in range(6)]
    monitoring.use_tool_id(tool, "mine")
    try:
        monitoring.register_callback(
            tool, monitoring.events.PY_START, lambda code, offset: seen.append(code)
        )
        monitoring.set_events(tool, monitoring.events.PY_START)
        build_plan()
        assert monitoring.get_tool(tool) == "mine"
        assert monitoring.get_events(tool) == monitoring.events.PY_START
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    assert Net.__init__.__code__ in seen
    assert [monitoring.get_tool(number) for number in range(6)] == before


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_without_a_tool_id_nothing_is_planned():
    taken = [number for number in range(6) if sys.monitoring.get_tool(number) is None]
    for number in taken:
        sys.monitoring.use_tool_id(number, "mine")
    try:
        assert factor_for(Config()) == 2.0
    finally:
        for number in taken:
            sys.monitoring.free_tool_id(number)
    assert "sys.monitoring" in reasons()


def test_a_constructor_that_sets_a_profile_function_keeps_it():
    def profile(frame, event, argument):
        pass

    class Sets(Net):
        def __init__(self, config, rngs):
            super().__init__(config, rngs)
            sys.setprofile(profile)

    try:
        assert factor_for(Config(), Sets) == 2.0
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)


def test_user_code_that_fails_ends_the_recording():
    class Fails(nnx.Module):
        def __init__(self, config, rngs):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ours.ToLinen(Fails, args=(Config(),)).apply({})
    build_plan()
    assert plans()["size"] > 0
    assert sys.getprofile() is None


def test_a_generator_may_outlive_the_recording():
    def numbers():
        yield from range(5)

    kept = []

    class Keeps(Net):
        def __init__(self, config, rngs):
            super().__init__(config, rngs)
            generator = numbers()
            kept[:] = [generator]
            self.rate = config.rate + next(generator)

    assert factor_for(Config(), Keeps) == 2.0
    assert next(kept[0]) == 1
    assert isinstance(kept[0], types.GeneratorType)
