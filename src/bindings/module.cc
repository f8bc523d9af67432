// The Python extension nnx_wrappers._core: one line a function, no logic.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bindings/docs.h"
#include "bindings/docs_of_reports.h"
#include "bindings/signatures.h"
#include "bridge/compat/decoder_layers.h"
#include "bridge/compat/functional.h"
#include "bridge/compat/installation.h"
#include "bridge/convert/nnx_meta.h"
#include "bridge/rng/lazy_keys.h"
#include "bridge/to_linen/python_methods.h"
#include "bridge/to_nnx/python_methods.h"
#include "bridge/to_nnx/shape_check.h"
#include "nnx_wrappers/nnx_wrappers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "py/supported.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/module_stack.h"
#include "upstream/scope.h"

namespace nb = nanobind;
namespace nw = nnx_wrappers;
namespace to_linen = nw::bridge::to_linen;
namespace to_nnx = nw::bridge::to_nnx;

namespace {

nb::object attribute_or_none(nb::handle self, nb::handle name) {
  nb::object found = to_linen::attribute(self, name);
  return found.is_valid() ? nb::make_tuple(found) : nb::make_tuple();
}

bool flag(nb::handle value, const char* where) {
  if (PyBool_Check(value.ptr()) == 0) {
    nw::raise_type_error({where, "True or False", nw::py::describe(value),
                          std::string("Write ") + where + "(True)."});
  }
  return value.ptr() == Py_True;
}

void bind_functions(nb::module_& m) {
  m.def("is_vanilla_variable", &nw::is_vanilla_variable, nb::arg("vs").none(),
        nb::sig(signatures::kIsVanillaVariable), docs::kIsVanillaVariable);
  m.def("to_linen_var", &nw::to_linen_var, nb::arg("vs").none(), nb::sig(signatures::kToLinenVar),
        docs::kToLinenVar);
  m.def("get_col_name", &nw::get_col_name, nb::arg("keypath").none(),
        nb::sig(signatures::kGetColName), docs::kGetColName);
  m.def("to_nnx_var", &nw::to_nnx_var, nb::arg("col").none(), nb::arg("x").none(),
        nb::sig(signatures::kToNnxVar), docs::kToNnxVar);
  m.def("linen_vars_to_nnx_attrs", &nw::linen_vars_to_nnx_attrs, nb::arg("variables").none(),
        nb::sig(signatures::kLinenVarsToNnxAttrs), docs::kLinenVarsToNnxAttrs);
  m.def("nnx_attrs_to_linen_vars", &nw::nnx_attrs_to_linen_vars, nb::arg("nnx_attrs").none(),
        nb::sig(signatures::kNnxAttrsToLinenVars), docs::kNnxAttrsToLinenVars);
  m.def(
      "lazy_init",
      [](const nb::args& args, const nb::kwargs& kwargs) {  // any keyword is the user's
        if (args.size() == 0) {
          nw::raise_type_error({"lazy_init", "an NNX module, or a method of one", "nothing",
                                "Write lazy_init(module, *sample_inputs)."});
        }
        nb::list rest;
        for (size_t i = 1; i < args.size(); ++i) rest.append(args[i]);
        return nw::lazy_init(args[0], nb::tuple(rest), kwargs);
      },
      nb::arg("args"), nb::arg("kwargs"), nb::sig(signatures::kLazyInit), docs::kLazyInit);
  m.def("current_linen_module", &nw::current_linen_module, nb::sig(signatures::kCurrentLinenModule),
        docs::kCurrentLinenModule);
  m.def("is_linen_initializing", &nw::is_linen_initializing, docs::kIsLinenInitializing);
  m.def("linen_rngs_dict", &nw::linen_rngs_dict, nb::arg("linen_module").none(),
        nb::arg("add_default") = false, nb::sig(signatures::kLinenRngsDict), docs::kLinenRngsDict);
  m.def("with_partitioning", &nw::bridge::with_partitioning, nb::arg("fn").none(),
        nb::arg("names").none(), nb::arg("mesh") = nb::none(),
        nb::sig(signatures::kWithPartitioning), docs::kWithPartitioning);
  m.def("cache_info", &nw::cache_info, nb::sig(signatures::kCacheInfo), docs::kCacheInfo);
  m.def("features", &nw::features, nb::sig(signatures::kFeatures), docs::kFeatures);
  m.def("clear_caches", &nw::clear_caches, docs::kClearCaches);
  m.def(
      "use_plans", [](nb::handle enabled) { return nw::use_plans(flag(enabled, "use_plans")); },
      nb::arg("enabled").none(), nb::sig(signatures::kUsePlans), docs::kUsePlans);
}

void bind_installation(nb::module_& m) {
  m.def("installation_restore", [] { nw::Installation().restore(); });
  m.def(
      "installation_replaced", [] { return nw::Installation().replaced(); },
      nb::sig(signatures::kInstallationReplaced));
  m.def("installation_enter", &nw::bridge::enter_installation);
  m.def("installation_exit", &nw::bridge::exit_installation);
  m.def("installation_repr", &nw::bridge::installation_repr);
  m.def(
      "install",
      [] {
        nb::object handle = nw::py::python_class("Installation")();
        nw::install();
        return handle;
      },
      nb::sig(signatures::kInstall), docs::kInstall);
  m.def(
      "record_usage",
      [](nb::handle enabled) { return nw::record_usage(flag(enabled, "record_usage")); },
      nb::arg("enabled").none(), nb::sig(signatures::kRecordUsage), docs::kRecordUsage);
  m.def("usage", &nw::usage, nb::sig(signatures::kUsage), docs::kUsage);
  m.def("clear_usage", &nw::clear_usage, docs::kClearUsage);
}

// Functions are pickled by name, as Python's own: they are values of ToLinen's fields.
void pickle_functions(const nb::module_& m) {
  const nb::object by_name =
      nb::module_::import_("operator").attr("attrgetter")(nb::str("__qualname__"));
  nb::module_::import_("copyreg").attr("pickle")(m.attr("to_linen_var").type(), by_name);
}

// Bodies of the methods of the Python classes.
void bind_shells(nb::module_& m) {
  m.def("version", [] { return NNX_WRAPPERS_VERSION; });
  m.def(
      "not_initialized_error", [] { return nb::borrow(nw::not_initialized_error()); },
      nb::sig(signatures::kNotInitializedError));
  m.def("to_nnx_init", &to_nnx::initialize, nb::arg("self"), nb::arg("module").none(),
        nb::arg("rngs").none(), nb::sig(signatures::kToNnxInit));
  m.def(
      "to_nnx_call",
      [](nb::handle self, const nb::tuple& args, const nb::dict& kwargs, nb::object rngs,
         nb::object method, nb::object mutable_) {
        return to_nnx::call(self, args, kwargs,
                            {std::move(rngs), std::move(method), std::move(mutable_)});
      },
      nb::arg("self"), nb::arg("args"), nb::arg("kwargs"), nb::arg("rngs").none(),
      nb::arg("method").none(), nb::arg("mutable").none(), nb::sig(signatures::kToNnxCall));
  m.def("to_nnx_attribute", &to_nnx::attribute, nb::arg("self"), nb::arg("name"),
        nb::sig(signatures::kToNnxAttribute));
  m.def("to_nnx_attribute_value", &to_nnx::attribute_value, nb::arg("value").none(),
        nb::sig(signatures::kToNnxAttributeValue));
  m.def("to_nnx_attributes", &nw::upstream::wrapper_attributes,
        nb::sig(signatures::kToNnxAttributes));
  m.def("to_nnx_class_keywords", &nw::upstream::wrapper_class_keywords,
        nb::sig(signatures::kToNnxClassKeywords));
  m.def("to_nnx_release_rngs", &to_nnx::release_rngs, nb::arg("self"),
        nb::sig(signatures::kToNnxReleaseRngs));
  m.def("to_nnx_get_layers", &nw::bridge::decoder_layers, nb::arg("self"),
        nb::sig(signatures::kToNnxGetLayers));

  m.def("to_linen_check_class", &to_linen::check_class, nb::arg("nnx_class").none(),
        nb::sig(signatures::kToLinenCheckClass));
  m.def("to_linen_is_inert", &to_linen::is_inert, nb::arg("self"), nb::arg("name"),
        nb::arg("value").none(), nb::sig(signatures::kToLinenIsInert));
  m.def("to_linen_deep_clone", &to_linen::deep_clone, nb::arg("self"), nb::arg("asked").none(),
        nb::arg("updates"), nb::sig(signatures::kToLinenDeepClone));
  m.def("to_linen_call", &to_linen::call, nb::arg("self"), nb::arg("nnx_method").none(),
        nb::arg("args"), nb::arg("kwargs"), nb::sig(signatures::kToLinenCall));
  m.def("to_linen_attribute", &attribute_or_none, nb::arg("self"), nb::arg("name"),
        nb::sig(signatures::kToLinenAttribute));
  m.def("to_linen_update_variables", &to_linen::update_variables, nb::arg("self"),
        nb::arg("module"), nb::sig(signatures::kToLinenUpdateVariables));
  m.def("to_linen_partial_fields", &to_linen::partial_fields, nb::arg("fixed"), nb::arg("given"),
        nb::sig(signatures::kToLinenPartialFields));
  m.def("to_linen_class_name", &to_linen::class_name, nb::arg("nnx_class").none(),
        nb::sig(signatures::kToLinenClassName));
  m.def("to_linen_stream", &to_linen::stream, nb::arg("rngs"), nb::arg("name"),
        nb::arg("error_type"), nb::sig(signatures::kToLinenStream));

  m.def("nnx_meta_add_axis", &nw::bridge::nnx_meta_add_axis, nb::arg("box"), nb::arg("index"),
        nb::arg("params").none(), nb::sig(signatures::kNnxMetaAddAxis));
  m.def("nnx_meta_remove_axis", &nw::bridge::nnx_meta_remove_axis, nb::arg("box"), nb::arg("index"),
        nb::arg("params").none(), nb::sig(signatures::kNnxMetaRemoveAxis));
  m.def("nnx_meta_partition_spec", &nw::bridge::nnx_meta_partition_spec, nb::arg("box"),
        nb::sig(signatures::kNnxMetaPartitionSpec));
  m.def("nnx_meta_to_variable", &nw::bridge::nnx_meta_to_variable, nb::arg("box"),
        nb::sig(signatures::kNnxMetaToVariable));

  m.def("checked_param", &nw::bridge::checked_param, nb::arg("scope"), nb::arg("name"),
        nb::arg("init_fn"), nb::arg("init_args"), nb::arg("unbox"), nb::arg("init_kwargs"),
        nb::sig(signatures::kCheckedParam));

  m.def("adopt_scope_of", &nw::upstream::adopt_scope_of, nb::arg("module").none(),
        nb::arg("root").none(), nb::sig(signatures::kAdoptScopeOf));
  m.def("hash_in_c", &nw::upstream::hash_in_c, nb::arg("scope_class"),
        nb::sig(signatures::kHashInC));
  m.def("scope_rewound", &nw::upstream::rewound, nb::arg("scope"), nb::arg("rewind_rngs"),
        nb::sig(signatures::kScopeRewound));
  m.def("scope_pushed", &nw::upstream::pushed, nb::arg("scope"), nb::arg("name").none(),
        nb::arg("prefix"), nb::arg("reuse"), nb::sig(signatures::kScopePushed));
  m.def("scope_rngs", &nw::bridge::scope_rngs, nb::arg("scope"), nb::sig(signatures::kScopeRngs));

  m.def("functional_init", &nw::bridge::functional_init, nb::arg("self"), nb::arg("rngs").none(),
        nb::sig(signatures::kFunctionalInit));
  m.def("functional_apply", &nw::bridge::functional_apply, nb::arg("self"), nb::arg("states"),
        nb::sig(signatures::kFunctionalApply));
}

}  // namespace

NB_MODULE(_core, m) {
  nw::py::require_main_interpreter();
  m.doc() = "The C++ library nnx_wrappers as a Python extension.";
  // NOLINTNEXTLINE(bugprone-unused-raii, bugprone-throw-keyword-missing): it registers itself
  nb::exception<nw::InternalError>(m, "InternalError", PyExc_RuntimeError).attr("__doc__") =
      docs::kInternalError;
  // Nothing here imports Flax: inside of the import of an extension a Ctrl-C would not stay one.
  bind_functions(m);
  pickle_functions(m);
  bind_installation(m);
  bind_shells(m);
}
