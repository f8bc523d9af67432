#include "bridge/convert/path_conflicts.h"

#include "nnx_wrappers/errors.h"
#include "py/object.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

std::string full_path(nb::handle collection, const graph::Path& path) {
  return py::utf8(collection) + "/" + graph::to_string(path);
}

}  // namespace

void refuse_prefix_paths(const graph::StateTree& tree, const std::string& where) {
  const auto conflict = tree.first_conflict();
  if (conflict == nullptr) return;
  raise_value_error(
      {where + ", " + full_path(conflict->leaf_collection, conflict->path),
       "a path that is no prefix of another, since an NNX attribute is either a Variable or a "
       "module",
       "the variable " + full_path(conflict->below_collection, conflict->below) + " below it",
       "Rename one of the two."});
}

void refuse_duplicates(const graph::StateTree& tree, const std::string& where) {
  for (const auto& found : tree.unused()) {
    const auto& leaves = found.tree->leaves();
    if (leaves.size() < 2) continue;
    raise_value_error({where + ", " + graph::to_string(found.path),
                       "each path in one collection, since an NNX attribute is one Variable",
                       "a duplicate variable path: " + full_path(leaves[0].collection, found.path) +
                           " and " + full_path(leaves[1].collection, found.path),
                       "Rename one of the two."});
  }
}

}  // namespace nnx_wrappers::bridge
