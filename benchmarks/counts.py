"""What can be counted: the same in every run, on every machine."""

import collections
import logging
import typing as tp

import jax
from flax import nnx

import nnx_wrappers
from benchmarks import contenders, models

LOG = logging.getLogger("nnx_wrappers.benchmarks")


class Calls(logging.Handler):
    """Counts what is logged: a constructor cannot read that, so it is planned all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[record.getMessage()] += 1


def counting_model() -> type[nnx.Module]:
    """The model of the benchmarks, which tells of its constructions and initializations."""

    class Counted(models.Transformer):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            LOG.info("constructor")

            def initializer(*args: tp.Any) -> jax.Array:
                LOG.info("initializer")
                return nnx.initializers.ones(*args)

            super().__init__(rngs=rngs)
            self.head = nnx.Linear(models.WIDTH, models.WIDTH, kernel_init=initializer, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.head(super().__call__(x))

    return Counted


def equations(function: tp.Callable[..., tp.Any], *args: tp.Any) -> int:
    return len(jax.make_jaxpr(function)(*args).eqns)


def count() -> dict[str, int]:
    """Equations of a trace; what runs again in a call; what the caches answer."""
    x = models.sample()
    graphdef, state = nnx.split(models.Transformer(rngs=nnx.Rngs(0)))
    upstream, ours, variables = contenders.to_linen_of_model()
    key = {"dropout": jax.random.key(2)}
    counts = {
        "equations, native": equations(lambda s, x: nnx.merge(graphdef, s)(x), state, x),
        "equations, upstream": equations(upstream.apply, variables, x),
        "equations, ours": equations(ours.apply, variables, x),
        "equations with rngs, upstream": equations(
            lambda v, x, k: upstream.apply(v, x, rngs=k), variables, x, key
        ),
        "equations with rngs, ours": equations(
            lambda v, x, k: ours.apply(v, x, rngs=k), variables, x, key
        ),
    }
    calls = Calls()
    LOG.setLevel(logging.INFO)
    LOG.addHandler(calls)
    model = nnx_wrappers.ToLinen(counting_model())
    counted_variables = model.init(contenders.KEYS, x)
    nnx_wrappers.clear_caches()
    model.apply(counted_variables, x)  # builds the plan, abstractly
    calls.counts.clear()
    for _ in range(5):
        model.apply(counted_variables, x)
    LOG.removeHandler(calls)
    plans = nnx_wrappers.cache_info()["plans"]
    counts |= {
        "constructor calls in 5 applies": calls.counts["constructor"],
        "initializer runs in 5 applies": calls.counts["initializer"],
        "plans built": plans["size"],
        "plan hits": plans["hits"],
        "not planned": sum(plans["not_planned"].values()),
    }
    return counts
