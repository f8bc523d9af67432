"""Compares models that Qwix quantizes, with MaxText's wrappers and with ours.

Runs where MaxText 0.2.4, Qwix 0.1.8 and nnx_wrappers are installed:

    python tests/maxtext/qwix_jaxprs.py

For each model and each provider it compares `init`, `apply` and the gradient of a training
step: the jaxprs as text, the operations by module path that Qwix has seen, and the values
bit for bit. Prints a table; exits with 1 if anything differs that is not meant to.

Of the model with a ToNNX inside (`nested`) only values and paths of quantized training are
compared: ours draws no key that Linen does not ask for, so the jaxprs differ by the equations
of keys even without Qwix; and after post-training its `init` keeps the quantized weights,
where MaxText's has the plain ones, which its `apply` refuses.
"""

import argparse
import collections
import dataclasses
import functools
import re
import sys
import typing as tp
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import qwix
from flax import linen as nn
from flax import nnx
from jax.interpreters import partial_eval
from maxtext.layers import linears
from maxtext.layers import nnx_wrappers as theirs

import nnx_wrappers as ours

WIDTH = 8
X = jax.random.normal(jax.random.key(7), (4, WIDTH))
KEY = jax.random.key(0)

Lib = tp.Any


# --- models ------------------------------------------------------------------------


class Attention(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.query = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        q = self.query(x)
        return self.out(jax.nn.softmax(jnp.einsum("bd,cd->bc", q, x)) @ x)


class Block(nnx.Module):
    """Submodules by attribute, in a list, and one that is shared."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear1 = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.linear2 = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)
        self.attention = Attention(rngs)
        self.layers = nnx.List([nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(2)])
        self.tied = self.layers[0]

    def __call__(self, x: jax.Array, _: tp.Any = None) -> tp.Any:
        x = x + self.linear2(jax.nn.relu(self.linear1(x)))
        x = x + self.attention(x)
        for layer in self.layers:
            x = layer(x)
        x = self.tied(x)
        return x if _ is None else (x, None)


def linear(lib: Lib) -> nn.Module:
    return lib.ToLinen(nnx.Linear, args=(WIDTH, WIDTH))


def dense_general(lib: Lib) -> nn.Module:
    return lib.to_linen_class(linears.DenseGeneral)(
        in_features_shape=WIDTH, out_features_shape=(2, 4), kernel_axes=("embed", "heads", "kv")
    )


def block(lib: Lib) -> nn.Module:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.Dense(WIDTH, name="linen")(x)
            x = lib.to_linen_class(Block)(name="layer")(x)
            return lib.ToLinen(nnx.Linear, args=(WIDTH, WIDTH), name="head")(x)

    return Model()


def lifted(lib: Lib, lift: tp.Callable[[type], type]) -> nn.Module:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x, _ = lift(lib.to_linen_class(Block))(name="layers")(x, jnp.zeros(()))
            return x

    return Model()


def scanned(cls: type, length: int) -> type:
    return nn.scan(
        cls,
        variable_axes={"params": 0, "quant_stats": 0},
        split_rngs={"params": True},
        length=length,
        in_axes=nn.broadcast,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def scan(lib: Lib) -> nn.Module:
    return lifted(lib, lambda cls: scanned(cls, length=3))


def remat(lib: Lib) -> nn.Module:
    return lifted(lib, nn.remat)


def remat_scan(lib: Lib) -> nn.Module:
    return lifted(lib, lambda cls: scanned(nn.remat(cls, prevent_cse=False), length=2))


def nested(lib: Lib) -> nn.Module:
    """A Linen module in an NNX block (variables given to it by the caller)."""

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Dense(WIDTH, name="inner")(x)

    class WithLinen(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.linear1 = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
            self.linen = lib.ToNNX(Linen(parent=None), rngs=rngs)
            lib.lazy_init(self.linen, X)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.linen(self.linear1(x))

    return lib.to_linen_class(WithLinen)()


MODELS = [linear, dense_general, block, scan, remat, remat_scan, nested]


# --- providers ---------------------------------------------------------------------


def qt(path: str = ".*", **settings: tp.Any) -> qwix.QtProvider:
    return qwix.QtProvider([qwix.QtRule(module_path=path, **settings)])


def ptq(path: str = ".*", **settings: tp.Any) -> qwix.PtqProvider:
    return qwix.PtqProvider([qwix.QuantizationRule(module_path=path, **settings)])


INT8 = {"weight_qtype": jnp.int8, "act_qtype": jnp.int8}
FP8 = {"weight_qtype": jnp.float8_e4m3fn, "act_qtype": jnp.float8_e4m3fn}
PROVIDERS: dict[str, tp.Callable[[], tp.Any]] = {
    "qt int8": lambda: qt(**INT8),
    "qt int8 + bwd": lambda: qt(**INT8, bwd_qtype=jnp.int8),
    "qt int8 .*linear1": lambda: qt(".*linear1", **INT8),
    "qt int8 .*attention.*": lambda: qt(".*attention.*", **INT8),
    "qt int8 weights": lambda: qt(weight_qtype=jnp.int8),
    "qt fp8": lambda: qt(**FP8),
    "qt fp8 + bwd e5m2": lambda: qt(**FP8, bwd_qtype=jnp.float8_e5m2),
    "qt fp8 .*attention/out": lambda: qt(".*attention/out", **FP8),
    "qt no match": lambda: qt("nothing", **INT8),
    "qt int8 static": lambda: qt(**INT8, act_static_scale=True),
    "ptq int8": lambda: ptq(**INT8),
    "ptq int8 weights": lambda: ptq(weight_qtype=jnp.int8),
    "ptq fp8": lambda: ptq(**FP8),
    "ptq no match": lambda: ptq("nothing", **INT8),
}


# --- what is compared --------------------------------------------------------------


def text(closed: tp.Any) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", str(closed))


def pruned(closed: tp.Any) -> str:
    """Without the equations that nothing uses: a construction plan spares them."""
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return text(jaxpr)


def bits(tree: tp.Any) -> list[tp.Any]:
    return [
        (leaf.shape, str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)
    ]


@dataclasses.dataclass
class Facts:
    """What one library gives."""

    facts: dict[str, tp.Any]
    quantized: collections.Counter

    def differences(self, other: "Facts") -> list[str]:
        names = self.facts.keys() | other.facts.keys()
        return sorted(n for n in names if self.facts.get(n) != other.facts.get(n))


def narrow_dots(closed: tp.Any) -> collections.Counter:
    """How many dot products there are on operands of 8 bits, by type."""
    found: collections.Counter = collections.Counter()
    for line in str(closed).splitlines():
        for name in re.findall(r"(i8|f8_e4m3fn|f8_e5m2)\[[^\]]*\] = ", line):
            found[name] += 1
    return found


def failure(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"


def run(lib: Lib, build: tp.Callable[[Lib], nn.Module], provider: tp.Any, trim: bool) -> Facts:
    jax.clear_caches()  # jitted functions of JAX keep what another provider made of them
    model = qwix.quantize_model(build(lib), provider)
    show = pruned if trim else text
    facts: dict[str, tp.Any] = {}
    quantized: collections.Counter = collections.Counter()
    try:
        init = jax.make_jaxpr(model.init)(KEY, X)
        facts["init jaxpr"] = show(init)
        variables = model.init(KEY, X)
        facts["init values"] = bits(variables)
        facts["init paths"] = sorted(provider._logged_ops)
        apply = functools.partial(model.apply, mutable=["quant_stats"])
        jaxpr = jax.make_jaxpr(apply)(variables, X)
        quantized = narrow_dots(jaxpr)
        facts["apply jaxpr"] = show(jaxpr)
        facts["apply values"] = bits(apply(variables, X))
        facts["jit values"] = bits(jax.jit(apply)(variables, X))
        facts["apply paths"] = sorted(provider._logged_ops)
        if isinstance(provider, qwix.PtqProvider):
            post_training(lib, build, provider, model, facts, show)
        else:
            others = {k: v for k, v in variables.items() if k != "params"}

            def loss(params: tp.Any, x: jax.Array) -> jax.Array:
                return jnp.sum(apply({"params": params, **others}, x)[0] ** 2)

            step = jax.value_and_grad(loss)
            facts["grad jaxpr"] = show(jax.make_jaxpr(step)(variables["params"], X))
            facts["grad values"] = bits(step(variables["params"], X))
    except Exception as error:
        facts["error"] = failure(error)
    return Facts(facts, quantized)


def post_training(
    lib: Lib,
    build: tp.Callable[[Lib], nn.Module],
    provider: tp.Any,
    model: nn.Module,
    facts: dict[str, tp.Any],
    show: tp.Callable[[tp.Any], str],
) -> None:
    """Weights of the plain model, quantized without running it, in the quantized one."""
    plain = build(lib).init(jax.random.key(3), X)["params"]
    abstract = jax.eval_shape(model.init, KEY, X)["params"]
    params = qwix.quantize_params(nn.unbox(plain), abstract)
    facts["ptq params"] = bits(params)
    facts["ptq kinds"] = sorted(
        (jax.tree_util.keystr(path), type(leaf).__name__)
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            params, is_leaf=lambda leaf: not isinstance(leaf, dict)
        )
    )
    facts["ptq jaxpr"] = show(jax.make_jaxpr(model.apply)({"params": params}, X))
    facts["ptq values"] = bits(model.apply({"params": params}, X))


def show_row(model: str, provider: str, counts: str, unplanned: str, planned: str) -> None:
    print(f"{model:14} {provider:24} {counts:22} {unplanned:16} {planned}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=[model.__name__ for model in MODELS])
    parser.add_argument("--show", action="store_true", help="print the facts that differ")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    wrong = 0
    show_row("model", "provider", "8-bit values", "without plans", "with plans")
    for build in MODELS:
        if build.__name__ not in options.models:
            continue
        for name, make in PROVIDERS.items():
            row = []
            for plans in (False, True):
                ours.clear_caches()
                before = ours.use_plans(plans)
                mine = run(ours, build, make(), trim=plans)
                ours.use_plans(before)
                reference = run(theirs, build, make(), trim=plans)
                differ = mine.differences(reference)
                if build is nested:
                    post = name.startswith("ptq")
                    differ = [n for n in differ if not post and not n.endswith("jaxpr")]
                same = "same" if "error" not in mine.facts else f"same: {mine.facts['error']}"
                row.append("DIFFERS: " + ", ".join(differ) if differ else same)
                wrong += bool(differ)
                if options.show:
                    for fact in differ:
                        print(f"--- {fact}, ours:\n{mine.facts.get(fact)}")
                        print(f"--- {fact}, MaxText's:\n{reference.facts.get(fact)}")
            counts = ", ".join(f"{n} {kind}" for kind, n in sorted(reference.quantized.items()))
            show_row(build.__name__, name, counts or "-", *row)
    print(f"{wrong} differences" if wrong else "No difference.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
