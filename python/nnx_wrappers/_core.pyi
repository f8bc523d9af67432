"""The C++ library nnx_wrappers as a Python extension."""

from collections.abc import Mapping
from typing import Any

import flax.core
import flax.errors
import flax.linen
import flax.nnx
import flax.typing
import jax
import jax.sharding
import jax.tree_util

import nnx_wrappers


class InternalError(RuntimeError):
    """
    A broken invariant of nnx_wrappers: a bug, never a user's mistake. Please report it.
    """

def is_vanilla_variable(vs: flax.nnx.Variable) -> bool:
    """
    Tells whether a Variable carries nothing of its own.

    A Variable is vanilla if its metadata is no more than what Flax gives to every
    Variable (`hijax`, `ref`, `eager_sharding`) and empty hooks. Only such a Variable
    becomes a raw value in Linen; the others become boxes.

    Args:
      vs: an `nnx.Variable`.

    Returns:
      Whether it is; value and shape do not matter.

    Raises:
      TypeError: if `vs` is no Variable.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> nnx_wrappers.is_vanilla_variable(nnx.Param(jnp.ones(2)))
      True
      >>> nnx_wrappers.is_vanilla_variable(nnx.Param(jnp.ones(2), note='mine'))
      False
    """

def to_linen_var(vs: flax.nnx.Variable) -> Any:
    """
    Turns a Variable into a Linen leaf.

    A vanilla Variable becomes its raw value; one that came from a Linen box (metadata
    `linen_meta_type`) that box again; any other an `NNXMeta` box. The value is the
    stored one: no get hook runs, an array ref is read.

    Args:
      vs: an `nnx.Variable`. It is left as it is.

    Returns:
      The value itself, or a box that holds it, with the same array and shape.

    Raises:
      TypeError: if `vs` is no Variable.
      ValueError: if the Linen box lacks metadata that it needs.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> nnx_wrappers.to_linen_var(nnx.Param(jnp.ones(2))).shape
      (2,)
      >>> box = nnx_wrappers.to_linen_var(nnx.Param(jnp.ones(2), note='mine'))
      >>> box.metadata['note']
      'mine'
    """

def get_col_name(keypath: jax.tree_util.KeyPath) -> str:
    """
    The collection name at the head of a JAX key path.

    Args:
      keypath: the key path of a leaf in a dict of collections, as
        `jax.tree_util.tree_map_with_path` gives it: a tuple of keys, the collection's first.

    Returns:
      The name, such as 'params'.

    Raises:
      TypeError: if it is no key path, or its head is no `DictKey`.
      ValueError: if it is empty.

    Example::

      >>> import jax
      >>> import nnx_wrappers
      >>> nnx_wrappers.get_col_name((jax.tree_util.DictKey('params'), jax.tree_util.DictKey('w')))
      'params'
    """

def to_nnx_var(col: str, x: Any) -> flax.nnx.Variable:
    """
    Turns a Linen leaf into a Variable of the collection's type.

    Args:
      col: the collection's name; a new name registers a new Variable type.
      x: a raw value, or a box such as `nn.Partitioned` or `NNXMeta`, kept as it is.

    Returns:
      A Variable that holds exactly the given value, of the same shape. No create hook runs.
      An annotated value moves only to a mesh that its annotation names or that is set.

    Raises:
      TypeError: if `col` is no str, or `x` is a Variable already.
      ValueError: if the box's type contradicts the collection, if it has no value, or if the
        name is registered for what is no Variable type.

    Example::

      >>> import jax.numpy as jnp
      >>> import nnx_wrappers
      >>> type(nnx_wrappers.to_nnx_var('batch_stats', jnp.zeros(3))).__name__
      'BatchStat'
    """

def linen_vars_to_nnx_attrs(variables: flax.typing.VariableDict) -> dict[str, Any]:
    """
    Turns a dict of Linen collections into nested NNX attributes.

    Args:
      variables: collections of nested variables, as `module.init` returns them:
        `{collection: {name: ... {name: leaf}}}`, dict or FrozenDict. It is left as it is.

    Returns:
      Nested dicts of Variables, each path without its collection, which is the Variable's
      type. Arrays are shared; their shapes stay. Keys are sorted, empty levels dropped.

    Raises:
      TypeError: if it is no mapping of mappings, or a collection's name is no str.
      ValueError: for a path that is in two collections, or a prefix of another path.

    Example::

      >>> import jax.numpy as jnp
      >>> import nnx_wrappers
      >>> attrs = nnx_wrappers.linen_vars_to_nnx_attrs({'params': {'dense': {'kernel': jnp.ones((2, 3))}}})
      >>> type(attrs['dense']['kernel']).__name__, attrs['dense']['kernel'].shape
      ('Param', (2, 3))
    """

def nnx_attrs_to_linen_vars(nnx_attrs: Mapping) -> dict[str, dict[str, Any]]:
    """
    Turns nested NNX attributes into a dict of Linen collections.

    Attributes that are no Variable have no place among Linen's variables and are left
    out.

    Args:
      nnx_attrs: a mapping of Variables and nested mappings of them, such as `nnx.state(module)`
        without its RNG streams. It is left as it is.

    Returns:
      A dict of collections, with a raw value for each vanilla Variable and a box for the
      others. Arrays are shared; their shapes stay.

    Raises:
      TypeError: if it is no mapping.
      ValueError: for a Variable whose type has no collection name.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> variables = nnx_wrappers.nnx_attrs_to_linen_vars({'bn': {'mean': nnx.BatchStat(jnp.zeros(3))}})
      >>> variables['batch_stats']['bn']['mean'].shape
      (3,)
    """

def lazy_init(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    """
    Runs an NNX module or one of its methods once, to make Linen's variables.

    Every `ToNNX` in the module's graph makes the variables of its Linen module from the
    inputs that reach it.

    Args:
      fn: an `nnx.Module`, or a bound method of one.
      *args: sample inputs. Their shapes and dtypes decide those of the variables.
      **kwargs: sample inputs, by name.

    Returns:
      `fn`, whose modules have their variables now.

    Raises:
      ValueError: if `fn` is no NNX module and no method of one, or a Linen variable has a name
        that an NNX attribute cannot have.
      TypeError: if the module cannot be called.
      flax.errors.InvalidRngError: if a Linen module needs a key and `ToNNX` was given no `rngs`.

    If the call fails, the module's attributes, Variables and RNG counts are as before.

    Example::

      >>> import jax.numpy as jnp
      >>> from flax import linen as nn, nnx
      >>> import nnx_wrappers
      >>> model = nnx_wrappers.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
      >>> nnx_wrappers.lazy_init(model, jnp.ones((1, 2))).kernel.shape
      (2, 3)
    """

def current_linen_module() -> flax.linen.Module | None:
    """
    The innermost Linen module whose method is running in this thread, or None.

    Example::

      >>> import nnx_wrappers
      >>> nnx_wrappers.current_linen_module() is None
      True
    """

def is_linen_initializing() -> bool:
    """
    Whether the innermost running Linen module is in `init`; False outside Linen.

    NNX code can skip work that `init` does not need. The answer is the calling thread's.

    Example::

      >>> import nnx_wrappers
      >>> nnx_wrappers.is_linen_initializing()
      False
    """

def linen_rngs_dict(linen_module: flax.linen.Module, add_default: bool = False) -> dict[str, Any]:
    """
    One key for each RNG stream that is active in a Linen module's scope.

    Args:
      linen_module: a bound Linen module (`self` inside a method).
      add_default: give a missing stream 'default' the seed 0.

    Returns:
      A dict from streams to keys, in the scope's order. Each key is a scalar; drawing it
      advances the scope's counter of the stream.

    Raises:
      TypeError: if it is no Linen module.
      ValueError: if it is unbound.

    Example::

      >>> import jax
      >>> from flax import linen as nn
      >>> import nnx_wrappers
      >>> class Model(nn.Module):
      ...   @nn.compact
      ...   def __call__(self):
      ...     return sorted(nnx_wrappers.linen_rngs_dict(self, add_default=True))
      >>> Model().apply({}, rngs={'dropout': jax.random.key(0)})
      ['default', 'dropout']
    """

def with_partitioning(fn: flax.typing.Initializer, names: flax.typing.Sharding, mesh: jax.sharding.Mesh | None = None) -> flax.typing.Initializer:
    """
    An NNX initializer annotated for sharding, a `nn.Partitioned` box in Linen.

    Args:
      fn: the initializer: `(key, shape, dtype) -> array`.
      names: the names of the mesh's axes, one for each axis of the array; None for an axis that
        is not sharded.
      mesh: the mesh; None for the one that is set where the Variable is made.

    Returns:
      An initializer to give to an NNX layer, such as `nnx.Linear(kernel_init=...)`.

    Raises:
      TypeError: if `fn` is no callable.

    Example::

      >>> import jax
      >>> from flax import linen as nn, nnx
      >>> import nnx_wrappers
      >>> init = nnx_wrappers.with_partitioning(nnx.initializers.ones_init(), ('in', 'out'))
      >>> init(jax.random.key(0), (2, 3)).metadata['out_sharding']
      ('in', 'out')
    """

def cache_info() -> dict[str, dict[str, Any]]:
    """
    What the library remembers, counted since the last `clear_caches`.

    Returns:
      Three dicts with the keys `size`, `hits` and `misses`, under the names `plans`,
      `shape_checks` and `qwix_classes`. `plans` has two more. `not_planned` counts constructor
      calls without a plan by reason, `rebuilt` plans that were made anew by what had changed.

    Example::

      >>> import nnx_wrappers
      >>> nnx_wrappers.clear_caches()
      >>> nnx_wrappers.cache_info()['plans']['size']
      0
    """

def features() -> dict[str, str | None]:
    """
    What works here, and why not where it does not.

    The library knows how many versions of Flax and JAX work inside, and uses that where a probe finds
    that it is right. Where a feature is off, Flax's own way runs: slower, with the same answers.

    Returns:
      For each feature None where it is on, else the reason why it is off, such as a name that this version
      does not have, a probe that found a difference, another feature that is off, or the environment
      variable NNX_WRAPPERS_DISABLE. It is decided once in a process.

    Example::

      >>> import nnx_wrappers
      >>> sorted(nnx_wrappers.features())  # doctest: +NORMALIZE_WHITESPACE
      ['fast_variables', 'fast_walk', 'guards', 'lazy_keys', 'lifted_scopes', 'native_scopes', 'plans',
       'qwix', 'repeated_calls', 'shape_checks']
    """

def clear_caches() -> None:
    """
    Forgets all that `cache_info` counts, and sets the counts to zero.

    Example::

      >>> import nnx_wrappers
      >>> nnx_wrappers.clear_caches()
      >>> nnx_wrappers.cache_info()['shape_checks']
      {'size': 0, 'hits': 0, 'misses': 0}
    """

def use_plans(enabled: bool) -> bool:
    """
    Turns construction plans on or off for the process.

    With a plan, `ToLinen` does not run the constructor again at `apply`. Plans are on
    unless the environment variable `NNX_WRAPPERS_PLANS` is 0.

    Args:
      enabled: whether plans may be used.

    Returns:
      What was set before.

    Raises:
      TypeError: if `enabled` is neither True nor False.

    Example::

      >>> import nnx_wrappers
      >>> before = nnx_wrappers.use_plans(False)
      >>> nnx_wrappers.use_plans(before)
      False
    """

def installation_restore() -> None: ...

def installation_replaced() -> dict[str, list[str]]: ...

def installation_enter() -> None: ...

def installation_exit() -> None: ...

def installation_repr() -> str: ...

def install() -> nnx_wrappers.Installation:
    """
    Puts this library in the place of the two Python bridges, for the whole process.

    The names of `flax.nnx.bridge` and its submodules are replaced, and those of
    `maxtext.layers.nnx_wrappers`, now or when it is imported. Where there is no MaxText,
    importing `maxtext.layers.nnx_wrappers` gives this package's names. Calling it again
    does only what is left to do.

    Returns:
      The `Installation`. Its `restore()` puts everything back, as does the end of
      `with nnx_wrappers.install():`.

    Warns:
      UserWarning: modules hold the earlier classes already; they go on with them.

    Example::

      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> with nnx_wrappers.install():
      ...   nnx.bridge.ToNNX is nnx_wrappers.ToNNX
      True
    """

def record_usage(enabled: bool) -> bool:
    """
    Turns the recording of calls, plans and seconds on or off for the process.

    Args:
      enabled: whether the wrappers record.

    Returns:
      What was set before; it is off at first.

    Raises:
      TypeError: if `enabled` is neither True nor False.

    Example::

      >>> import nnx_wrappers
      >>> before = nnx_wrappers.record_usage(True)
      >>> nnx_wrappers.record_usage(before)
      True
    """

def usage() -> list[dict[str, Any]]:
    """
    What the wrappers have done since `clear_usage` while recording was on.

    Returns:
      A dict for each wrapped class, by seconds, descending. Its keys are `wrapper`, `wrapped`,
      `inits` (calls that made variables), `calls` (all others), `plans_built` and `plan_hits`
      (calls that used a new plan or one that was there, inits that JAX traces among them),
      `rebuilt` (of `plans_built`, how many by what had changed), `not_planned` (calls that ran
      the constructor, by reason) and `seconds` (inside the bridge, without those of the method
      of the wrapped module).

    Example::

      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> import nnx_wrappers
      >>> model = nnx_wrappers.to_linen(nnx.Linear, 2, 3)
      >>> before = nnx_wrappers.record_usage(True)
      >>> variables = model.init(jax.random.key(0), jnp.ones((1, 2)))
      >>> [(row['wrapped'], row['inits']) for row in nnx_wrappers.usage()]
      [('flax.nnx.nn.linear.Linear', 1)]
      >>> nnx_wrappers.record_usage(before); nnx_wrappers.clear_usage()
      True
    """

def clear_usage() -> None:
    """
    Empties the table of `usage`.

    Example::

      >>> import nnx_wrappers
      >>> nnx_wrappers.clear_usage()
      >>> nnx_wrappers.usage()
      []
    """

def version() -> str: ...

def not_initialized_error() -> type[flax.errors.ScopeParamNotFoundError]: ...

def to_nnx_init(self: flax.nnx.Module, module: flax.linen.Module, rngs: flax.nnx.Rngs | jax.Array | None) -> None: ...

def to_nnx_call(self: flax.nnx.Module, args: tuple[Any, ...], kwargs: dict[str, Any], rngs: Any, method: Any, mutable: Any) -> Any: ...

def to_nnx_attribute(self: flax.nnx.Module, name: str) -> Any: ...

def to_nnx_attribute_value(value: Any) -> Any: ...

def to_nnx_attributes() -> tuple[str, str]: ...

def to_nnx_class_keywords() -> dict[str, Any]: ...

def to_nnx_release_rngs(self: flax.nnx.Module) -> None: ...

def to_nnx_get_layers(self: flax.nnx.Module) -> list[Any]: ...

def to_linen_check_class(nnx_class: Any) -> None: ...

def to_linen_is_inert(self: flax.linen.Module, name: str, value: Any) -> bool: ...

def to_linen_deep_clone(self: flax.linen.Module, asked: Any, updates: dict[str, Any]) -> Any: ...

def to_linen_call(self: flax.linen.Module, nnx_method: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

def to_linen_attribute(self: flax.linen.Module, name: str) -> tuple[Any, ...]: ...

def to_linen_update_variables(self: flax.linen.Module, module: flax.nnx.Module) -> None: ...

def to_linen_partial_fields(fixed: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]: ...

def to_linen_class_name(nnx_class: Any) -> str: ...

def to_linen_stream(rngs: flax.nnx.Rngs, name: str, error_type: type[Exception]) -> flax.nnx.RngStream: ...

def nnx_meta_add_axis(box: Any, index: int, params: Any) -> Any: ...

def nnx_meta_remove_axis(box: Any, index: int, params: Any) -> Any: ...

def nnx_meta_partition_spec(box: Any) -> jax.sharding.PartitionSpec | None: ...

def nnx_meta_to_variable(box: Any) -> flax.nnx.Variable: ...

def checked_param(scope: flax.core.Scope, name: str, init_fn: Any, init_args: tuple[Any, ...], unbox: bool, init_kwargs: dict[str, Any]) -> Any: ...

def adopt_scope_of(module: flax.linen.Module | None, root: flax.core.Scope | None) -> None: ...

def hash_in_c(scope_class: type[flax.core.Scope]) -> None: ...

def scope_rewound(scope: flax.core.Scope, rewind_rngs: bool) -> flax.core.Scope: ...

def scope_pushed(scope: flax.core.Scope, name: str | None, prefix: str, reuse: bool) -> flax.core.Scope: ...

def scope_rngs(scope: flax.core.Scope) -> dict[str, Any]: ...

def functional_init(self: Any, rngs: flax.nnx.Rngs | None) -> flax.nnx.State: ...

def functional_apply(self: Any, states: tuple[Any, ...]) -> Any: ...
