// The names of modules that an installation has replaced.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::bridge {

// True if the module is the package or one in it.
bool is_in_package(const std::string& module, const std::string& package);

class ModulePatches {
 public:
  // Replaces every name of `module` that this package exports too by the package's object. Returns
  // true if there was any. Replaces all or none.
  bool replace_in(const std::string& module_name, nanobind::handle module);

  // The number of names that are replaced.
  size_t size() const { return entries_.size(); }

  // Undoes all replacements but the first `kept`. A name that has another object by now is left
  // alone. If an error is thrown, another call undoes the rest.
  void undo(size_t kept = 0);

  // {module: [names]}, in the order of replacement.
  nanobind::dict names() const;

  // "a (X, Y); b (Z)" for the modules that hold a replaced object or a subclass of one under other
  // names; empty if there are none.
  std::string holders() const;

 private:
  struct Entry {
    std::string module_name;
    nanobind::object module;
    nanobind::object name;
    nanobind::object before;
    nanobind::object ours;
  };

  static void put_back(const Entry& entry);
  // True for a replaced object, and for a subclass of one.
  bool is_replaced(nanobind::handle value) const;

  std::vector<Entry> entries_;
};

}  // namespace nnx_wrappers::bridge
