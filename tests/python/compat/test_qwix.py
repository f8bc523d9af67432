"""Qwix finds paths in NNX modules inside Linen modules, and nothing is done without it.

The expectation is a pure Linen model of the same structure, quantized by Qwix itself. With
MaxText's wrappers: tests/maxtext/qwix_jaxprs.py.
"""

import re
import subprocess
import sys
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours
from support.planning import without_plans
from support.quantizing import INT8, KEY, X, paths, ptq, qt, qwix

FP8 = {"weight_qtype": jnp.float8_e4m3fn, "act_qtype": jnp.float8_e4m3fn}

pytestmark = [
    pytest.mark.feature("qwix"),
    pytest.mark.filterwarnings("ignore:'VariableState' was removed"),  # Qwix's own
    pytest.mark.usefixtures("fresh_caches", "fresh_jax", "no_interrupting_threads"),
]


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.query = nnx.Linear(8, 8, rngs=rngs)
        self.out = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        return self.out(jax.nn.relu(self.query(x)))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear1 = nnx.Linear(8, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 8, rngs=rngs)
        self.attention = Attention(rngs)

    def __call__(self, x):
        return self.attention(self.linear2(self.linear1(x)))


class LinenAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name="out")(jax.nn.relu(nn.Dense(8, name="query")(x)))


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="linear2")(nn.Dense(16, name="linear1")(x))
        return LinenAttention(name="attention")(x)


class Model(nn.Module):
    wrapped: bool = True

    @nn.compact
    def __call__(self, x):
        layer = ours.to_linen_class(Block) if self.wrapped else LinenBlock
        return layer(name="layer")(x)


def program(function, *args):
    return re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(*args)))


def subclasses():
    """How many classes there are below each NNX class of this file."""
    classes = (Block, Attention, nnx.Linear, nnx.Module)
    return {cls.__name__: len(cls.__subclasses__()) for cls in classes}


LAYERS = ["layer/attention/out", "layer/attention/query", "layer/linear1", "layer/linear2"]
RULES = [".*", ".*linear1", ".*attention.*", "layer/attention/out", "nothing"]


@pytest.mark.parametrize(
    ("rule", "qtypes"),
    [(rule, INT8) for rule in RULES] + [(".*", FP8), (".*", {**INT8, "bwd_qtype": jnp.int8})],
)
def test_quantized_training_is_that_of_a_linen_model_of_the_same_structure(rule, qtypes):
    variables = Model(wrapped=False).init(KEY, X)

    def results(wrapped):
        # Qwix looks for weights in Linen's scope, so those of the layers in an NNX block count
        # as activations: the same here, as both have one type.
        provider = qt(rule, **qtypes)
        model = qwix.quantize_model(Model(wrapped), provider)
        step = jax.grad(lambda v: jnp.sum(model.apply(v, X) ** 2))
        dots = re.findall(r"(?:i8|f8_\w+)\[[\d,]+\]", program(model.apply, variables, X))
        return paths(provider), dots, model.apply(variables, X), step(variables)

    expected = results(False)
    mine = results(True)
    assert mine[0] == expected[0]
    assert mine[1] == expected[1]
    assert expected[0] == LAYERS
    assert bool(mine[1]) == (rule != "nothing")
    assert_same(mine[2], expected[2])
    assert_same(mine[3], expected[3])
    with_fewer = ours.use_plans(False)
    try:
        assert_same(results(True)[2], expected[2])
    finally:
        ours.use_plans(with_fewer)


def test_init_of_a_quantized_model_makes_the_same_variables():
    expected = Model().init(KEY, X)
    provider = qt(**INT8)
    assert_same(qwix.quantize_model(Model(), provider).init(KEY, X), expected)
    assert paths(provider) == LAYERS


def test_the_statistics_of_a_static_scale_are_qwix_s_and_no_unknown_paths():
    provider = qt(**INT8, act_static_scale=True)
    model = qwix.quantize_model(Model(), provider)
    variables = model.init(KEY, X)
    _, updates = model.apply(variables, X, mutable=["quant_stats"])
    statistics = updates["quant_stats"]["layer"]
    sides = ("lhs", "rhs")
    assert set(statistics) == {f"dot_general{i}_{side}" for i in range(4) for side in sides}
    assert all(int(entry["count"]) == 1 for entry in statistics.values())
    again = {**variables, **updates}
    _, updates = model.apply(again, X, mutable=["quant_stats"])
    assert int(updates["quant_stats"]["layer"]["dot_general0_lhs"]["count"]) == 2


@pytest.mark.usefixtures("without_eager_sharding")
def test_post_training_quantizes_the_weights_of_a_wrapped_module():
    kernel_init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("in", "out"))
    annotated = ours.to_linen(nnx.Linear, 8, 8, kernel_init=kernel_init)
    for plain in (ours.to_linen(nnx.Linear, 8, 8), annotated):
        model = qwix.quantize_model(plain, ptq(**INT8))
        abstract = jax.eval_shape(model.init, KEY, X)["params"]
        weights = nn.unbox(plain.init(jax.random.key(3), X)["params"])
        params = qwix.quantize_params(weights, abstract)
        assert type(params["kernel"]).__name__ == "WithAux"
        assert params["kernel"].array.qvalue.dtype == jnp.int8
        dense = qwix.quantize_model(nn.Dense(8), ptq(**INT8))
        expected = dense.apply({"params": params}, X)
        assert_same(model.apply({"params": params}, X), expected)
        assert_same(jax.jit(model.apply)({"params": params}, X), expected)
        at_init = model.init(KEY, X)  # with the boxes of the weights inside
        assert model.apply(at_init, X).shape == (4, 8)


def test_post_training_quantizes_a_linen_module_further_in():
    class Holder(nnx.Module):
        def __init__(self, rngs):
            self.dense = ours.ToNNX(nn.Dense(8, parent=None), rngs=rngs)

        def __call__(self, x):
            return self.dense(x)

    model = qwix.quantize_model(ours.to_linen(Holder), ptq(**INT8))
    out, variables = model.init_with_output(KEY, X)
    assert type(variables["params"]["dense"]["kernel"]).__name__ == "WithAux"
    assert_same(model.apply(variables, X), out)


@pytest.mark.parametrize("lift", ["scan", "remat"])
def test_lifted_blocks_have_paths_too(lift):
    class Step(nnx.Module):
        def __init__(self, rngs):
            self.linear1 = nnx.Linear(8, 8, rngs=rngs)

        def __call__(self, x, _):
            return self.linear1(x), None

    class Lifted(nn.Module):
        @nn.compact
        def __call__(self, x):
            cls = ours.to_linen_class(Step)
            if lift == "remat":
                return nn.remat(cls)(name="layers")(x, None)[0]
            options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            return nn.scan(cls, length=3, **options)(name="layers")(x, None)[0]

    provider = qt(".*linear1", **INT8)
    model = qwix.quantize_model(Lifted(), provider)
    variables = model.init(KEY, X)
    jax.grad(lambda v: model.apply(v, X).sum())(variables)
    assert paths(provider) == ["layers/linear1"]
    assert "i8[" in program(model.apply, variables, X)


def test_keys_of_lists_are_steps_and_a_shared_module_has_its_first_path():
    class Listed(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(2)])
            self.tied = self.layers[0]

        def __call__(self, x):
            return self.tied(self.layers[1](self.layers[0](x)))

    provider = qt(**INT8)
    qwix.quantize_model(ours.to_linen(Listed), provider).init(KEY, X)
    by_operation = sorted(provider._logged_ops, key=lambda entry: entry[1])
    assert [path for path, _ in by_operation] == ["0", "1", "0"]


# --- while Qwix does not intercept ----------------------------------------------------


def test_nothing_is_imported_and_no_class_is_made_without_qwix(tmp_path):
    code = (
        "import sys, jax, jax.numpy as jnp\n"
        "from flax import linen as nn, nnx\n"
        "def globals_():\n"
        "    return dict(vars(nn.Module)), dict(vars(nnx.Module)), jax.lax.dot_general\n"
        "before = globals_()\n"
        "import nnx_wrappers\n"
        "assert before == globals_()\n"
        "model = nnx_wrappers.ToLinen(nnx.Linear, args=(3, 3))\n"
        "x = jnp.ones((1, 3))\n"
        "variables = model.init(jax.random.key(0), x)\n"
        "classes = nnx.Linear.__subclasses__(), nnx.Module.__subclasses__()\n"
        "model.init(jax.random.key(0), x)\n"
        "model.apply(variables, x)\n"
        "assert classes == (nnx.Linear.__subclasses__(), nnx.Module.__subclasses__())\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'qwix']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_no_class_is_made_while_qwix_is_imported_but_does_not_intercept():
    before = subclasses()
    variables = Model().init(KEY, X)
    Model().apply(variables, X)
    assert subclasses() == before
    assert ours.cache_info()["qwix_classes"]["size"] == 0


def test_the_program_of_a_plain_model_is_as_before_once_a_quantized_one_ran():
    variables = Model().init(KEY, X)
    before = program(Model().apply, variables, X)
    model = qwix.quantize_model(Model(), qt(**INT8))
    quantized = program(model.apply, variables, X)
    assert "i8[" in quantized
    jax.clear_caches()
    assert program(Model().apply, variables, X) == before


def test_a_plan_belongs_to_the_provider_that_it_was_made_under():
    variables = Model().init(KEY, X)
    models = [Model(), *(qwix.quantize_model(Model(), qt(**kind)) for kind in (INT8, FP8))]
    with without_plans():
        expected = [model.apply(variables, X) for model in models]
    assert len({np.asarray(out).tobytes() for out in expected}) == 3
    for model, out in [*zip(models, expected, strict=True)] * 2:
        assert_same(model.apply(variables, X), out)
    assert ours.cache_info()["plans"]["hits"] > 0


def test_operations_of_a_constructor_are_intercepted_at_the_path_of_the_wrapper():
    class Product(nnx.Module):
        def __init__(self):
            self.made = nnx.Param(jax.lax.dot(jnp.eye(8), jnp.ones((8, 8)) / 3))
            self.linear1 = nnx.Linear(8, 8, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.linear1(x @ self.made)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ours.ToLinen(Product, skip_rng=True, name="layer")(x)

    provider = qt("layer", **INT8)
    model = qwix.quantize_model(Outer(), provider)
    variables = model.init(KEY, X)
    reference = ours.use_plans(False)
    try:
        expected = model.apply(variables, X)
    finally:
        ours.use_plans(reference)
    ours.clear_caches()
    assert_same(model.apply(variables, X), expected)
    assert {path for path, _ in provider._logged_ops} == {"layer", "layer/linear1"}


def test_a_thread_that_does_not_quantize_is_left_alone():
    variables = Model().init(KEY, X)
    expected = Model().apply(variables, X)
    inside, done = threading.Event(), threading.Event()
    results = {}

    class Waiting(nn.Module):
        @nn.compact
        def __call__(self, x):
            inside.set()
            assert done.wait(60)
            return Model(name="model")(x)

    provider = qt(**INT8)

    def quantize():
        model = qwix.quantize_model(Waiting(), provider)
        results["quantized"] = model.apply({"params": {"model": variables["params"]}}, X)

    thread = threading.Thread(target=quantize)
    thread.start()
    assert inside.wait(60)
    before = subclasses()
    results["plain"] = Model().apply(variables, X)
    assert subclasses() == before
    done.set()
    thread.join()
    assert_same(results["plain"], expected)
    assert not np.array_equal(results["quantized"], expected)
    assert paths(provider) == ["model/" + path for path in LAYERS]


# --- other versions ------------------------------------------------------------------


def test_another_qwix_is_named_in_one_sentence_where_it_quantizes(monkeypatch):
    interception = sys.modules["qwix._src.interception"]
    other = types.ModuleType("qwix._src.interception")
    model = qwix.quantize_model(Model(), qt(**INT8))
    variables = Model().init(KEY, X)
    monkeypatch.setitem(sys.modules, "qwix._src.interception", other)
    Model().apply(variables, X)  # Qwix is not at work
    sentence = r"interception_manager, which Qwix 0\.1\.8 does not have"
    with pytest.raises(ImportError, match=sentence):
        model.apply(variables, X)
    monkeypatch.setitem(sys.modules, "qwix._src.interception", interception)
    model.apply(variables, X)
