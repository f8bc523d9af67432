"""Providers of Qwix for tests, which are skipped without it."""

import jax
import jax.numpy as jnp
import pytest

qwix = pytest.importorskip("qwix", reason="Qwix is an extra")

X = jax.random.normal(jax.random.key(1), (4, 8))
KEY = jax.random.key(0)
INT8 = {"weight_qtype": jnp.int8, "act_qtype": jnp.int8}


def qt(path=".*", **settings):
    return qwix.QtProvider([qwix.QtRule(module_path=path, **settings)])


def ptq(path=".*", **settings):
    return qwix.PtqProvider([qwix.QuantizationRule(module_path=path, **settings)])


def paths(provider):
    return sorted(path for path, _ in provider._logged_ops)
