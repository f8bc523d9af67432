"""What mypy must accept, and (with an ignore that has to be needed) refuse."""

import typing as tp

import jax
import jax.numpy as jnp
from flax import linen, nnx

import nnx_wrappers as nw

x = jnp.ones((1, 2))

tp.assert_type(nw.is_vanilla_variable(nnx.Param(x)), bool)
tp.assert_type(nw.get_col_name((jax.tree_util.DictKey("params"),)), str)
tp.assert_type(nw.to_nnx_var("params", x), nnx.Variable)
tp.assert_type(nw.linen_vars_to_nnx_attrs({"params": {"w": x}}), dict[str, tp.Any])
tp.assert_type(nw.nnx_attrs_to_linen_vars({"w": nnx.Param(x)}), dict[str, dict[str, tp.Any]])
tp.assert_type(nw.is_linen_initializing(), bool)
tp.assert_type(nw.current_linen_module(), linen.Module | None)
tp.assert_type(nw.linen_rngs_dict(linen.Dense(2), add_default=True), dict[str, tp.Any])
tp.assert_type(nw.ToNNX(linen.Dense(2), rngs=nnx.Rngs(0)).lazy_init(x), nw.ToNNX)
tp.assert_type(nw.to_linen(nnx.Linear, 2, out_features=3), nw.ToLinen)
tp.assert_type(nw.to_linen_class(nnx.Linear), type[nw.ToLinen])
tp.assert_type(nw.get_include(), str)
tp.assert_type(nw.functional(nnx.Linear)(2, 3).init(rngs=nnx.Rngs(0)), nnx.State)

nw.is_vanilla_variable(1)  # type: ignore[arg-type]
nw.to_nnx_var(1, x)  # type: ignore[arg-type]
nw.linen_vars_to_nnx_attrs([x])  # type: ignore[arg-type]
nw.linen_rngs_dict(nnx.Linear)  # type: ignore[arg-type]
nw.ToNNX(3)  # type: ignore[arg-type]
nw.ToNNX(linen.Dense)  # type: ignore[arg-type]
nw.ToLinen(3)  # type: ignore[arg-type]
nw.no_such_name  # type: ignore[attr-defined]
