// Docstrings of the bound functions. The examples are run by the tests.
#pragma once

namespace docs {

inline constexpr const char* kIsVanillaVariable =
    R"(Tells whether a Variable carries nothing of its own.

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
)";

inline constexpr const char* kToLinenVar = R"(Turns a Variable into a Linen leaf.

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
)";

inline constexpr const char* kGetColName = R"(The collection name at the head of a JAX key path.

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
)";

inline constexpr const char* kToNnxVar =
    R"(Turns a Linen leaf into a Variable of the collection's type.

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
)";

inline constexpr const char* kLinenVarsToNnxAttrs =
    R"(Turns a dict of Linen collections into nested NNX attributes.

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
)";

inline constexpr const char* kNnxAttrsToLinenVars =
    R"(Turns nested NNX attributes into a dict of Linen collections.

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
)";

inline constexpr const char* kLazyInit =
    R"(Runs an NNX module or one of its methods once, to make Linen's variables.

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
)";

inline constexpr const char* kCurrentLinenModule =
    R"(The innermost Linen module whose method is running in this thread, or None.

Example::

  >>> import nnx_wrappers
  >>> nnx_wrappers.current_linen_module() is None
  True
)";

inline constexpr const char* kIsLinenInitializing =
    R"(Whether the innermost running Linen module is in `init`; False outside Linen.

NNX code can skip work that `init` does not need. The answer is the calling thread's.

Example::

  >>> import nnx_wrappers
  >>> nnx_wrappers.is_linen_initializing()
  False
)";

inline constexpr const char* kLinenRngsDict =
    R"(One key for each RNG stream that is active in a Linen module's scope.

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
)";

inline constexpr const char* kWithPartitioning =
    R"(An NNX initializer annotated for sharding, a `nn.Partitioned` box in Linen.

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
)";

inline constexpr const char* kInstall =
    R"(Puts this library in the place of the two Python bridges, for the whole process.

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
)";

inline constexpr const char* kInternalError =
    "A broken invariant of nnx_wrappers: a bug, never a user's mistake. Please report it.";

}  // namespace docs
