// The names that an installation has replaced, module by module.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::bridge {

// True if the name is that of the package or of a module in it.
bool is_in_package(const std::string& module, const std::string& package);

class Replacements {
 public:
  // Puts this package's objects under every name of `module` that the package has too.
  // Returns whether there was any. All or nothing.
  bool replace_in(const std::string& module_name, nanobind::handle module);

  // How many names have been replaced.
  size_t size() const { return entries_.size(); }

  // Puts all but the first `kept` back where this package's object still stands. Where
  // that fails, what is left waits for the next time.
  void undo(size_t kept = 0);

  // {module: [names]}, in the order of replacement.
  nanobind::dict names() const;

  // "a (X, Y), b (Z)" for the modules that hold a replaced object, or a class made of one;
  // empty if there is none.
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
  bool is_earlier(nanobind::handle value) const;

  std::vector<Entry> entries_;
};

}  // namespace nnx_wrappers::bridge
