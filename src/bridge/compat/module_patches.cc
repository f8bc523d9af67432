#include "bridge/compat/module_patches.h"

#include <algorithm>
#include <array>
#include <utility>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/dialect/wrapper.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

constexpr const char* kPackage = "nnx_wrappers";

// Where ToLinen does not work, Flax's own stays, with what it uses.
constexpr std::array<const char*, 5> kNamesOfToLinen = {"ToLinen", "to_linen", "to_linen_class",
                                                        "NNXMeta", "linen_rngs_dict"};
constexpr const char* kModuleOfToLinen = "flax.nnx.bridge.variables";

bool is_left_alone(const std::string& module_name, nb::handle name) {
  if (upstream::has_to_linen()) return false;
  return module_name == kModuleOfToLinen ||
         std::ranges::any_of(kNamesOfToLinen,
                             [&](const char* left) { return name.equal(nb::str(left)); });
}

}  // namespace

bool is_in_package(const std::string& module, const std::string& package) {
  return module == package || module.starts_with(package + ".");
}

bool ModulePatches::replace_in(const std::string& module_name, nb::handle module) {
  const nb::object package = nb::module_::import_(kPackage);
  const nb::dict there = py::instance_dict(module);
  std::vector<Entry> made;
  try {
    for (const nb::object& name : py::elements(package.attr("__all__"))) {
      const nb::object before = py::dict_get(there, name);
      if (!before.is_valid() || is_left_alone(module_name, name)) continue;
      const nb::object ours = py::get(package, name);
      if (before.is(ours)) continue;
      made.push_back({module_name, nb::borrow(module), name, before, ours});
      py::set(module, name, ours);
    }
  } catch (...) {
    for (const Entry& entry : made) put_back(entry);
    throw;
  }
  entries_.insert(entries_.end(), made.begin(), made.end());
  return !made.empty();
}

void ModulePatches::undo(size_t kept) {
  while (entries_.size() > kept) {
    Entry entry = std::move(entries_.back());
    entries_.pop_back();
    try {
      put_back(entry);
    } catch (...) {
      entries_.push_back(std::move(entry));
      throw;
    }
  }
}

void ModulePatches::put_back(const Entry& entry) {
  if (py::dict_get(py::instance_dict(entry.module), entry.name).is(entry.ours)) {
    py::set(entry.module, entry.name, entry.before);
  }
}

nb::dict ModulePatches::names() const {
  nb::dict names;
  const std::vector<Entry> entries = entries_;  // copied, since a finalizer may call undo
  for (const Entry& entry : entries) {
    const nb::str module(entry.module_name.c_str());
    if (!names.contains(module)) names[module] = nb::list();
    nb::list listed = nb::cast<nb::list>(names[module]);
    // A module that was reloaded has two entries for a name.
    if (!py::contains(listed, entry.name)) listed.append(entry.name);
  }
  return names;
}

bool ModulePatches::is_replaced(nb::handle value) const {
  for (const Entry& entry : entries_) {
    if (value.is(entry.before)) return true;
    if (!py::is_class(value) || !py::is_class(entry.before)) continue;
    if (py::is_subtype(value, entry.before) && !py::is_subtype(value, entry.ours)) return true;
  }
  return false;
}

std::string ModulePatches::holders() const {
  std::string text;
  const nb::object modules = py::sys("modules");
  for (const auto& [key, module] : py::mapping_items(modules)) {
    if (!nb::isinstance<nb::str>(key) || !PyModule_Check(module.ptr())) continue;
    const std::string module_name = py::shortened(key);
    bool is_own = is_in_package(module_name, kPackage);
    for (const Entry& entry : entries_) is_own |= module.is(entry.module);
    if (is_own) continue;
    std::string held;
    for (const auto& [name, value] : py::dict_items(py::instance_dict(module))) {
      if (!nb::isinstance<nb::str>(name) || !is_replaced(value)) continue;
      held += (held.empty() ? "" : ", ") + py::shortened(name);
    }
    if (held.empty()) continue;
    if (!text.empty()) text += "; ";
    text.append(module_name).append(" (").append(held).append(")");
  }
  return text;
}

}  // namespace nnx_wrappers::bridge
