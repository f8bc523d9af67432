#include "support.h"

namespace nnx_wrappers::testing {

namespace {

constexpr const char* kImports = R"(
import collections, dataclasses, functools, sys, textwrap, types
import jax, jax.numpy as jnp, numpy as np
from flax import linen, nnx
from flax.core import FrozenDict, meta
from flax.nnx import graphlib, variablelib
import nnx_wrappers

def _run(source):
  namespace = dict(_globals)
  exec(textwrap.dedent(source), namespace)
  return namespace['result']

def _prepare(source):
  exec(textwrap.dedent(source), globals())
  _globals.update(globals())

def _bits(x):
  if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    return _bits(jax.random.key_data(x))
  x = np.asarray(x)
  return x.dtype, x.shape, x.tobytes()

def _same_bits(left, right):
  left, right = (jax.tree.flatten(t) for t in (left, right))
  return left[1] == right[1] and [*map(_bits, left[0])] == [*map(_bits, right[0])]

_globals = dict(globals())
)";

nb::dict& python() {
  static nb::dict& names = *new nb::dict();  // emptied by release()
  return names;
}

nb::object builtin(const char* name) { return nb::module_::import_("builtins").attr(name); }

}  // namespace

void prepare() { builtin("exec")(kImports, python()); }

void release() {
  python().clear();
  nb::module_::import_("gc").attr("collect")();
}

nb::object run(const char* statements) { return python()["_run"](statements); }

nb::object eval(const char* expression) { return builtin("eval")(expression, python()); }

void prepare_names(const char* statements) { python()["_prepare"](statements); }

std::string show(nb::handle object) { return nb::cast<std::string>(nb::repr(object)); }

std::vector<std::string> texts(nb::handle iterable) {
  std::vector<std::string> result;
  for (nb::handle element : nb::iter(iterable)) {
    result.push_back(nb::cast<std::string>(nb::str(element)));
  }
  return result;
}

bool same_bits(nb::handle left, nb::handle right) {
  return nb::cast<bool>(python()["_same_bits"](left, right));
}

std::string account(nb::handle object) {
  return nb::cast<std::string>(run(R"(
    def account(x):
      if isinstance(x, nnx.Variable):
        return repr((type(x).__name__, np.asarray(x.get_raw_value()).tobytes(),
                     sorted(x.get_metadata().items(), key=str)))
      if isinstance(x, nnx.bridge.NNXMeta):
        return repr(('NNXMeta', x.var_type.__name__, np.asarray(x.value).tobytes(),
                     sorted(x.metadata.items(), key=str)))
      if isinstance(x, meta.AxisMetadata):
        return repr((type(x).__name__, np.asarray(x.unbox()).tobytes(),
                     sorted((k, v) for k, v in vars(x).items() if k != 'value')))
      return repr((np.asarray(x).dtype, np.asarray(x).tobytes()))
    result = account
  )")(object));
}

bool Error::is_a(nb::handle expected) const {
  return type.is_valid() && nb::cast<bool>(builtin("issubclass")(type, expected));
}

}  // namespace nnx_wrappers::testing
