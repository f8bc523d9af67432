"""The scope that a ToNNX runs its module in, against Flax's own."""

import copy

import jax
import jax.numpy as jnp
import pytest
from flax import core, errors
from flax import linen as nn

from support.oracle import assert_same
from support.oracle import ours as bridge


class Looks(nn.Module):
    """Says what class its scope has."""

    def __call__(self):
        return type(self.scope)


CheckedScope = bridge.ToNNX(Looks())()
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def scopes(rngs=RNGS, **kwargs):
    """The same scope twice: ours, and Flax's."""
    made = []
    for cls in (CheckedScope, core.Scope):
        variables = {"params": {"a": {"w": jnp.ones(2)}}}
        scope = core.Scope(variables, rngs=rngs, flags={"initializing": False}, **kwargs)
        scope.__class__ = cls
        made.append(scope)
    return made


def account(scope):
    """What a scope holds, by name; other scopes by their paths."""
    fields = dict(vars(scope))
    fields["rngs"] = {k: (jax.random.key_data(r.rng).tolist(), r.suffix)
                      for k, r in fields["rngs"].items()}  # fmt: skip
    for name in ("parent", "_root"):
        fields[name] = fields[name] and fields[name].path
    fields["_variables"] = jax.tree.map(str, fields["_variables"])
    fields["reservations"] = (fields["reservations"].default_factory, dict(fields["reservations"]))
    return fields


STEPS = {
    "push": lambda scope: scope.push("a"),
    "push twice": lambda scope: scope.push("a").push("b"),
    "push by prefix": lambda scope: scope.push(prefix="Dense_"),
    "push again": lambda scope: (scope.push("a"), scope.push("a", reuse=True))[1],
    "push after rewinding": lambda scope: (scope.push("a"), scope.rewound().push("a"))[1],
    "rewound": lambda scope: scope.rewound(),
    "rewound with rngs": lambda scope: scope.rewound(rewind_rngs=True),
    "rewound child": lambda scope: scope.push("a").rewound(),
    "rewound after use": lambda scope: (scope.reserve("x", "params"), scope.rewound())[1],
    "copy": copy.copy,
}


@pytest.mark.parametrize("rngs", [RNGS, {}, {"params": RNGS["params"]}], ids=["two", "none", "one"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_scope_makes_what_flax_s_makes(step, rngs):
    ours, theirs = (step(scope) for scope in scopes(rngs))
    assert account(ours) == account(theirs)
    assert type(ours) is CheckedScope
    assert (ours.root.path, ours.path_text) == (theirs.root.path, theirs.path_text)
    assert vars(ours.rewound()).keys() == vars(theirs.rewound()).keys()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_its_keys_and_variables_are_flax_s(step):
    results = []
    for scope in scopes(mutable=["params"]):
        made = step(scope)
        keys = [made.make_rng(name) for name in ("params", "dropout", "unknown", "dropout")]
        made.put_variable("params", "x", jnp.zeros(1))
        results.append(
            (keys, scope.mutable_variables(), [made.has_rng(n) for n in ("dropout", "x")])
        )
    assert_same(results[0], results[1])


def test_hash_and_equality_are_flax_s():
    ours, theirs = scopes()
    assert hash(ours) == core.Scope.__hash__(ours)
    assert hash(ours.push("a")) == core.Scope.__hash__(ours.push("a", reuse=True))
    assert ours == ours.rewound()
    assert hash(ours) == hash(ours.rewound())
    assert ours != ours.push("b")
    assert ours != theirs


def outcome_of(step, scope):
    with pytest.raises(Exception, match=r".*") as caught:
        step(scope)
    return type(caught.value), str(caught.value)


MISUSES = {
    "a name that is taken": lambda scope: (scope.push("a"), scope.push("a")),
    "a name that is no string": lambda scope: scope.push(3),
    "a scope that has ended": lambda scope: (scope.invalidate(), scope.push("a")),
    "rewinding one that has ended": lambda scope: (scope.invalidate(), scope.rewound()),
    "a variable's name": lambda scope: (scope.reserve("a", "params"), scope.push("a")),
    "a parameter twice": lambda scope: [
        scope.push("a").param("w", lambda key: jnp.ones(2)) or scope.push("a", reuse=True)
        for _ in range(2)
    ],
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_misuse_is_flax_s_error(misuse):
    ours, theirs = scopes()
    assert outcome_of(misuse, ours) == outcome_of(misuse, theirs)


def test_the_class_is_back_after_an_error():
    ours, _ = scopes()
    ours.invalidate()
    for step in (ours.push, ours.rewound):
        with pytest.raises(errors.InvalidScopeError):
            step()
        assert type(ours) is CheckedScope
