#include "nnx_wrappers/install.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "bridge/compat/installation.h"
#include "bridge/compat/module_patches.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/facade.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

constexpr const char* kFlaxBridge = "flax.nnx.bridge";
// The module of MaxText whose names are replaced, after the packages that contain it.
constexpr std::array<const char*, 3> kMaxText = {"maxtext", "maxtext.layers",
                                                 "maxtext.layers.nnx_wrappers"};
constexpr const char* kOrigin = "made by nnx_wrappers.install()";

struct State {
  bool active = false;
  bool is_first = false;  // the last call of install() has made the installation
  size_t depth = 0;       // of nested `with` blocks
  bool owned = false;     // the end of the outermost block restores
  bridge::ModulePatches patches;
  nb::object importer;
  std::map<std::string, nb::object> loaders;  // the real loaders of modules that are being loaded
};

State& state() {
  static constinit py::Once<State> state;  // immortal: holds Python objects
  return state.get([] { return State(); });
}

nb::object loaded(const char* name) { return py::dict_get(py::sys("modules"), nb::str(name)); }

void log(const std::string& text) {
  nb::module_::import_("logging").attr("getLogger")("nnx_wrappers").attr("info")("%s", text);
}

// The replaced names as a text: "a (X, Y); b (Z)".
std::string listed(const nb::dict& replaced) {
  std::string text;
  for (const auto& [module, names] : py::dict_items(replaced)) {
    const nb::object joined = nb::str(", ").attr("join")(names);
    text += (text.empty() ? "" : "; ") + py::utf8(module) + " (" + py::utf8(joined) + ")";
  }
  return text;
}

bool replace_loaded() {
  bool any = false;
  bridge::ModulePatches& patches = state().patches;
  for (const auto& [key, module] : py::mapping_items(py::sys("modules"))) {
    if (!nb::isinstance<nb::str>(key) || !PyModule_Check(module.ptr())) continue;
    const std::string name = py::shortened(key);
    if (bridge::is_in_package(name, kFlaxBridge) || name == kMaxText.back())
      any |= patches.replace_in(name, module);
  }
  return any;
}

bool is_stand_in(nb::handle module) {
  const nb::object spec = py::get_optional(module, nb::str("__spec__"));
  if (!spec.is_valid() || spec.is_none()) return false;
  const nb::object origin = py::get_optional(spec, nb::str("origin"));
  return origin.is_valid() && origin.equal(nb::str(kOrigin));
}

void remove_stand_ins() {
  const nb::object modules = py::sys("modules");
  for (const char* name : kMaxText) {
    const nb::object module = loaded(name);
    if (module.is_valid() && is_stand_in(module)) modules.attr("pop")(name, nb::none());
  }
}

// The spec that the other finders find, or None.
nb::object found_by_others(nb::handle name, nb::handle path, nb::handle target) {
  for (const nb::object& finder : py::elements(py::sys("meta_path"))) {
    if (finder.is(state().importer)) continue;
    const nb::object find = py::get_optional(finder, nb::str("find_spec"));
    if (!find.is_valid()) continue;
    nb::object spec = find(name, path, target);
    if (!spec.is_none()) return spec;
  }
  return nb::none();
}

// The methods of an importer, which is both a finder and a loader.

nb::object find_spec(nb::handle name, nb::handle path, nb::handle target) {
  const auto* const known = std::ranges::find_if(
      kMaxText, [&](const char* module) { return name.equal(nb::str(module)); });
  if (known == kMaxText.end() || !state().active) return nb::none();
  nb::object spec = found_by_others(name, path, target);
  const bool is_package = known + 1 != kMaxText.end();
  if (!spec.is_none()) {
    if (is_package) return nb::none();  // a real package, which is imported as always
    state().loaders[*known] = spec.attr("loader");
    py::set(spec, nb::str("loader"), state().importer);
    return spec;
  }
  // A stand-in is made only where MaxText is not installed. If a real package lacks the module,
  // importing it is an error.
  if (known != kMaxText.begin()) {
    const nb::object parent = loaded(*(known - 1));
    if (!parent.is_valid() || !is_stand_in(parent)) return nb::none();
  }
  state().loaders.erase(*known);  // an earlier spec may not have been loaded
  return nb::module_::import_("importlib.machinery")
      .attr("ModuleSpec")(name, state().importer, nb::arg("origin") = kOrigin,
                          nb::arg("is_package") = is_package);
}

nb::object create_module(nb::handle spec) {
  const auto found = state().loaders.find(py::utf8(spec.attr("name")));
  if (found == state().loaders.end()) return nb::none();
  const nb::object loader = found->second;
  return loader.attr("create_module")(spec);
}

void exec_module(nb::handle module) {
  State& s = state();
  const nb::object spec = module.attr("__spec__");
  const std::string name = py::utf8(spec.attr("name"));
  const auto found = s.loaders.find(name);
  if (found != s.loaders.end()) {
    const nb::object loader = found->second;
    s.loaders.erase(found);
    py::set(spec, nb::str("loader"), loader);
    py::set(module, nb::str("__loader__"), loader);
    loader.attr("exec_module")(module);
    if (s.active && s.patches.replace_in(name, module)) {
      log("in place of " + listed(Installation().replaced()));
    }
    return;
  }
  if (name != kMaxText.back()) return;  // an empty package
  const nb::object package = nb::module_::import_("nnx_wrappers");
  // Names that are imported when they are asked for are not MaxText's.
  const nb::dict there = py::instance_dict(package);
  for (const nb::object& exported : py::elements(package.attr("__all__"))) {
    const nb::object value = py::dict_get(there, exported);
    if (value.is_valid()) py::set(module, exported, value);
  }
}

// An importer: a namespace with functions that have no state, so that C++ programs, which have no
// extension module, need no bound class.
nb::object make_importer() {
  nb::dict functions;
  functions["find_spec"] =
      nb::cpp_function(&find_spec, nb::arg("fullname"), nb::arg("path") = nb::none(),
                       nb::arg("target") = nb::none());
  functions["create_module"] = nb::cpp_function(&create_module, nb::arg("spec"));
  functions["exec_module"] = nb::cpp_function(&exec_module, nb::arg("module"));
  return py::call(nb::module_::import_("types").attr("SimpleNamespace"), nb::tuple(), functions);
}

// Restores at the end of Python, so that no object outlives the interpreter.
void restore_at_exit() {
  static bool registered = false;
  if (registered) return;
  nb::module_::import_("atexit").attr("register")(
      nb::cpp_function([] { Installation().restore(); }));
  registered = true;
}

}  // namespace

Installation install() {
  upstream::facade();  // Flax's own objects are looked up before their names are replaced
  State& s = state();
  const bool was_active = s.active;
  s.is_first = !was_active;
  if (!was_active) {
    s.importer = make_importer();
    restore_at_exit();
    py::sys("meta_path").attr("insert")(0, s.importer);
    s.active = true;
  }
  const Installation handle;
  const size_t before = s.patches.size();
  try {
    if (!replace_loaded()) return handle;
    log("in place of " + listed(handle.replaced()) + "; " + kMaxText.back() +
        " is replaced when it is imported");
    const std::string holders = s.patches.holders();
    if (!holders.empty()) {
      upstream::facade().warn(
          "nnx_wrappers.install() came late: these modules hold the earlier "
          "classes already and go on with them: " +
          holders + ". Call install() before they are imported.");
    }
  } catch (...) {
    if (was_active) {
      s.patches.undo(before);
    } else {
      handle.restore();
    }
    throw;
  }
  return handle;
}

void Installation::restore() const {
  State& s = state();
  if (!s.active) return;
  const nb::object importer = s.importer;
  const nb::object meta_path = py::sys("meta_path");
  if (py::contains(meta_path, importer)) meta_path.attr("remove")(importer);
  remove_stand_ins();
  s.patches.undo();
  s.active = false;  // at the end, so that after an error the next call does the rest
  s.importer = nb::object();
  log("restored");
}

nb::dict Installation::replaced() const { return state().patches.names(); }

namespace bridge {

void enter_installation() {
  State& s = state();
  if (s.depth++ == 0) s.owned = s.is_first;
}

void exit_installation() {
  State& s = state();
  if (s.depth == 0) return;
  --s.depth;
  if (s.depth == 0 && s.owned) Installation().restore();
}

std::string installation_repr() {
  if (!state().active) return "<nnx_wrappers.install(): all restored>";
  std::string text = "<nnx_wrappers.install(): in place of " + listed(Installation().replaced());
  if (!loaded(kMaxText.back()).is_valid()) {
    text += std::string("; ") + kMaxText.back() + " when it is imported";
  }
  if (!upstream::has_to_linen()) text += "; Flax's ToLinen stays: " + upstream::why_no_to_linen();
  return text + ">";
}

}  // namespace bridge

}  // namespace nnx_wrappers
