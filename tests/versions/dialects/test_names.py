"""What the package offers with each version of Flax, and says of the rest."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers

X = jnp.ones((2, 3))


def has_to_linen() -> bool:
    """Whether Flax's ToLinen is the program that ours stands for: since its ToNNX forks streams."""
    rngs = nnx.Rngs(0)
    nnx.bridge.ToNNX(nn.Dense(1), rngs=rngs)
    return int(rngs["default"].count.value) == 1


def test_every_name_is_there():
    for name in nnx_wrappers.__all__:
        assert getattr(nnx_wrappers, name) is not None


def test_features_tell_what_is_off_and_why():
    features = nnx_wrappers.features()
    assert all(reason is None or reason for reason in features.values())
    assert features["native_scopes"] is None


@pytest.mark.parametrize(
    "use",
    [
        lambda: nnx_wrappers.ToLinen(nnx.Linear, args=(3, 4)),
        lambda: nnx_wrappers.to_linen(nnx.Linear, 3, 4),
        lambda: nnx_wrappers.to_linen_class(nnx.Linear),
    ],
    ids=["ToLinen", "to_linen", "to_linen_class"],
)
def test_to_linen_works_or_says_in_one_sentence_why_not(use):
    if has_to_linen():
        use()
        return
    with pytest.raises(NotImplementedError, match=r"^ToLinen: it needs Flax .*, got Flax .*"):
        use()


def test_install_replaces_what_works_and_says_what_stays():
    before = {name: getattr(nnx.bridge, name) for name in ("ToNNX", "ToLinen", "lazy_init")}
    with nnx_wrappers.install() as installation:
        assert nnx.bridge.ToNNX is nnx_wrappers.ToNNX
        assert nnx.bridge.lazy_init is nnx_wrappers.lazy_init
        stays = nnx.bridge.ToLinen is before["ToLinen"]
        assert stays != has_to_linen()
        assert ("ToLinen stays" in repr(installation)) == stays
        variables = nnx.bridge.ToLinen(nnx.Linear, args=(3, 4)).init(jax.random.key(0), X)
        assert variables["params"]["kernel"].shape == (3, 4)
    assert {name: getattr(nnx.bridge, name) for name in before} == before


def test_a_linen_module_with_flaxs_to_linen_inside_can_be_wrapped():
    wrapped = nnx.bridge.ToLinen(nnx.Linear, args=(3, 4))
    models = [
        bridge.ToNNX(wrapped, rngs=nnx.Rngs(params=0)).lazy_init(X)
        for bridge in (nnx_wrappers, nnx.bridge)
    ]
    outs = [model(X) for model in models]
    assert (outs[0] == outs[1]).all()
    split = [nnx.state(model, nnx.Param) for model in models]
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool((a == b).all()), *map(jax.tree.leaves, split))
    )
