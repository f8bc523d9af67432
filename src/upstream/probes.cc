#include "upstream/probes.h"

#include <algorithm>
#include <vector>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/constructor_watch.h"
#include "upstream/dialect/dialect.h"
#include "upstream/facade.h"
#include "upstream/instance.h"
#include "upstream/module_stack.h"
#include "upstream/node.h"
#include "upstream/private_names.h"
#include "upstream/pytree_state.h"
#include "upstream/scope.h"
#include "upstream/trace_slice.h"
#include "upstream/variable.h"

namespace nnx_wrappers::upstream {

namespace {

// The names of what an object holds: in its __dict__ and in the slots of its classes.
nb::list fields_of(nb::handle object) {
  nb::list names;
  const nb::object attributes = py::get_optional(object, py::names().dict_dunder);
  if (attributes.is_valid()) {
    for (const nb::object& name : py::elements(attributes)) names.append(name);
  }
  for (const nb::object& base : py::elements(nb::object(object.type().attr("__mro__")))) {
    const nb::object slots =
        py::dict_get(base.attr("__dict__").attr("copy")(), nb::str("__slots__"));
    if (!slots.is_valid()) continue;
    const bool is_one = nb::isinstance<nb::str>(slots);
    for (const nb::object& name : is_one ? std::vector{slots} : py::elements(slots)) {
      const std::string text = py::utf8(name);
      if (text != "__weakref__" && text != "__dict__") names.append(name);
    }
  }
  return names;
}

// The first field that one of the two has and the other has not, or has with another value.
std::string difference(nb::handle theirs, nb::handle ours) {
  if (!theirs.type().is(ours.type())) return "another class";
  for (nb::handle name : fields_of(theirs)) {
    const nb::object left = py::get_optional(theirs, name);
    const nb::object right = py::get_optional(ours, name);
    if (left.is_valid() != right.is_valid()) return "the field " + py::utf8(name);
    if (left.is_valid() && !left.is(right) && !py::equal(left, right)) {
      return "the field " + py::utf8(name);
    }
  }
  if (nb::len(fields_of(theirs)) != nb::len(fields_of(ours))) return "the number of fields";
  return "";
}

std::string found(const std::string& what, const std::string& differs) {
  return differs.empty() ? "" : what + " of this version of Flax differs in " + differs;
}

// Whether an nnx.Pytree with two children has the same two as Flax flattens it.
bool is_flattened_alike(nb::handle node) {
  const auto read = pytree_children(node);
  const auto flattened = children_by_flax(node);
  return read.size() == 2 && flattened.size() == 2 &&
         std::ranges::equal(read, flattened, [](const Child& left, const Child& right) {
           return left.key.type().is(right.key.type()) && left.key.equal(right.key) &&
                  left.value.is(right.value) && left.kind == right.kind;
         });
}

}  // namespace

std::string probe_fast_variables() {
  const Facade& f = facade();
  if (!f.trace_state.is_valid()) return "flax.nnx.tracers.TraceState is missing";
  if (dialect().has_older_variables) return "classes of this version of Flax make their Variables";
  const nb::object value = nb::float_(0.5);
  nb::dict metadata;
  add_required_metadata(metadata);
  const nb::object theirs = f.variable(value, nb::arg("note") = 1);
  nb::dict full = py::copy_dict(py::get(theirs, names().get_metadata)());
  const nb::object ours = new_plain_variable(f.variable, value, full, f.trace_state());
  std::string text = found("a Variable", difference(theirs, ours));
  if (!text.empty()) return text;
  const bool reads = py::get(theirs, private_names().raw_value).is(value) &&
                     py::equal(py::get(theirs, private_names().var_metadata), full);
  if (!reads) return "a Variable of this version of Flax keeps its value or metadata elsewhere";
  const bool has_flags = std::ranges::all_of(
      py::dict_items(metadata), [&](const py::Item& item) { return full.contains(item.first); });
  return has_flags ? "" : "a Variable of this version of Flax has other metadata";
}

std::string probe_fast_walk() {
  const Facade& f = facade();
  if (dialect().has_older_variables) return "nodes of this version of Flax are of an older kind";
  const nb::object module = f.nnx_module();
  const nb::object inner = f.nnx_module();
  py::set(module, nb::str("b"), inner);
  py::set(module, nb::str("a"), f.variable(nb::float_(0.5)));
  py::set(module, nb::str("c"), nb::str("static"));
  const nb::object state = pytree_state(module);
  if (!state.is_valid()) return "an nnx.Module of this version of Flax has its flags elsewhere";
  const nb::object made = new_pytree_state(state, py::get(state, nb::str("trace_state")));
  std::string text = found("the flags of an nnx.Module", difference(state, made));
  if (!text.empty()) return text;
  if (is_initializing_pytree(module)) return "the flags of an nnx.Module are read in another way";
  set_initializing_flag(state, nb::bool_(true));
  if (!is_initializing_pytree(module)) return "the flags of an nnx.Module are set in another way";
  set_initializing_flag(state, nb::bool_(false));
  nb::list elements;
  elements.append(f.variable(nb::float_(0.5)));
  elements.append(inner);
  const nb::object list = f.nnx_list(elements);  // its keys are numbers
  const bool is_same = is_flattened_alike(module) && is_flattened_alike(list);
  return is_same ? "" : "the attributes of an nnx.Module are flattened in another way";
}

std::string probe_native_scopes() {
  const Facade& f = facade();
  if (!f.lazy_rng.is_valid()) return "flax.core.scope.LazyRng is missing";
  const auto make = [&] {
    return f.scope(nb::dict(), nb::arg("rngs") = nb::dict(), nb::arg("mutable") = false,
                   nb::arg("name") = nb::none());
  };
  const nb::object left = make();
  const nb::object right = make();
  if (nb::hash(hash_parts(left)) != nb::hash(left)) {
    return "a scope of this version of Flax has another hash";
  }
  const auto compare = [&](nb::handle theirs, nb::handle ours) -> std::string {
    const nb::dict one = py::instance_dict(theirs);
    const nb::dict other = py::instance_dict(ours);
    if (one.size() != other.size()) return "the number of fields";
    for (const auto& [name, value] : py::dict_items(one)) {
      const nb::object mine = py::dict_get(other, name);
      if (!mine.is_valid() || !mine.type().is(value.type())) return "the field " + py::utf8(name);
      const bool refers_to_scope = value.type().is(f.scope);
      if (!refers_to_scope && !py::equal(value, mine)) return "the field " + py::utf8(name);
    }
    return "";
  };
  const nb::object theirs = left.attr("push")("child");
  const nb::object ours = pushed_natively(right, nb::str("child"));
  std::string text = found("a child scope", compare(theirs, ours));
  if (!text.empty()) return text;
  return found("a rewound scope", compare(left.attr("rewound")(false), rewound_natively(right)));
}

std::string probe_lifted_scopes() {
  const Facade& f = facade();
  if (!f.lift_pack.is_valid() || !f.child_rng_token.is_valid()) {
    return "flax.core.lift.pack or flax.core.scope.child_rng_token is missing";
  }
  if (PyList_CheckExact(py::get(f.linen_context, names().module_stack).ptr()) == 0) {
    return "Linen of this version keeps the modules that run elsewhere";
  }
  const nb::object root =
      f.scope(nb::dict(), nb::arg("rngs") = nb::dict(), nb::arg("name") = nb::none());
  nb::object inner;
  const nb::object transformed = nb::cpp_function(
      [&](nb::handle scope_fn, nb::handle repack, nb::handle variables, nb::handle rngs) {
        inner = scope_fn(variables, rngs);
        return nb::make_tuple(nb::none(), repack(inner));
      });
  const nb::tuple all = nb::make_tuple(true);
  f.lift_pack(f.partial(transformed), all, all, all)(root.attr("push")("child"));
  const bool is_known = inner.type().is(f.scope) && counts_below(inner, root);
  return is_known ? "" : "lifted transformations of this version make their scopes in another way";
}

// NOLINTNEXTLINE(modernize-use-string-view): a probe as the others
std::string probe_lazy_keys() {
  const Facade& f = facade();
  if (!f.lazy_rng.is_valid() || !f.trace_state.is_valid()) {
    return "flax.core.scope.LazyRng or flax.nnx.tracers.TraceState is missing";
  }
  if (!takes_lazy_rngs()) return "this version of Flax takes no LazyRng for a key";
  const nb::object lazy = f.lazy_rng(nb::str("key"), nb::make_tuple("suffix"));
  const bool is_known = lazy.attr("rng").equal(nb::str("key")) &&
                        lazy.attr("suffix").equal(nb::make_tuple("suffix")) &&
                        nb::len(fields_of(lazy)) == 2;
  if (!is_known) return "a LazyRng of this version of Flax has other fields";
  const nb::object longer = py::get(f.lazy_rng, names().create)(lazy, nb::str("more"));
  const bool is_longer = longer.attr("suffix").equal(nb::make_tuple("suffix", "more")) &&
                         longer.attr("rng").equal(nb::str("key"));
  return is_longer ? "" : "a LazyRng of this version of Flax is made longer in another way";
}

// NOLINTNEXTLINE(modernize-use-string-view): a probe as the others
std::string probe_guards() {
  const nb::handle context = facade().trace_context;
  if (!context.is_valid()) return "JAX does not tell what a trace depends on";
  const nb::object key = context();
  return key.attr("__hash__").is_none() ? "what a trace depends on has no hash" : "";
}

// NOLINTNEXTLINE(modernize-use-string-view): a probe as the others
std::string probe_plans() {
  const Facade& f = facade();
  for (nb::handle needed : {f.dce_jaxpr, f.closed_jaxpr, f.literal}) {
    if (!needed.is_valid()) return "JAX does not have what reads and cuts programs";
  }
  return "";
}

std::string probe_repeated_calls() {
  const Facade& f = facade();
  if (!f.type_of.is_valid()) return "jax.typeof is missing";
  if (!ConstructorWatch::is_supported()) return "constructors are run in another way";
  const std::string_view reason = TraceSlice::reason_not_supported();
  if (!reason.empty()) return std::string(reason);
  nb::object seen;
  const ConstructorWatch watch(
      [&](nb::handle type, const nb::tuple& args, const nb::dict& kwargs) -> nb::object {
        seen = nb::borrow(type);
        return ConstructorWatch::construct(type, args, kwargs);
      });
  const nb::object made = f.nnx_module();
  const bool is_seen = seen.is_valid() && seen.is(f.nnx_module) && made.type().is(f.nnx_module);
  return is_seen ? "" : "constructors are called in another way";
}

}  // namespace nnx_wrappers::upstream
