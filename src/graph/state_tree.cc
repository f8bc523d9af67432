#include "graph/state_tree.h"

#include "py/containers.h"
#include "py/recursion.h"
#include "upstream/linen.h"

namespace nnx_wrappers::graph {

StateTree& StateTree::child_or_new(nb::handle key) {
  if (StateTree* found = child(key)) return *found;
  index_[key] = children_.size();
  children_.emplace_back(nb::borrow(key), std::make_unique<StateTree>());
  return *children_.back().second;
}

StateTree* StateTree::child(nb::handle key) const {
  const nb::object position = py::dict_get(index_, key);
  if (!position.is_valid()) return nullptr;
  return children_[nb::cast<size_t>(position)].second.get();
}

StateTree* StateTree::child_for_module_key(nb::handle key) {
  StateTree* found = child(key);
  if (found != nullptr || PyLong_CheckExact(key.ptr()) == 0) return found;
  found = child(nb::str(key));
  if (found != nullptr) found->was_found_by_text_ = true;
  return found;
}

bool StateTree::has_numeric_text_keys() const {
  if (was_found_by_text_) return true;
  for (const auto& item : children_) {
    if (item.second->has_numeric_text_keys()) return true;
  }
  return false;
}

Path StateTree::first_ambiguous_number() const {
  for (const auto& [key, below] : children_) {
    if (PyLong_CheckExact(key.ptr()) != 0 && child(nb::str(key)) != nullptr) return {key};
    Path path = below->first_ambiguous_number();
    if (path.empty()) continue;
    path.insert(path.begin(), key);
    return path;
  }
  return {};
}

void StateTree::add_collection(nb::handle collection, nb::handle variables) {
  const py::RecursionGuard guard(" while reading a tree of Linen variables");
  for (auto& [key, value] : py::mapping_items(variables)) {
    StateTree& below = child_or_new(key);
    if (upstream::is_level(value)) {
      below.add_collection(collection, value);
    } else {
      below.leaves_.push_back({nb::borrow(collection), std::move(value)});
    }
  }
}

void StateTree::mark_all_used() {
  used_ = true;
  for (const auto& child : children_) child.second->mark_all_used();
}

nb::dict StateTree::to_dict(nb::handle collection) const {
  nb::dict level;
  for (const auto& [key, below] : children_) {
    for (const StateLeaf& leaf : below->leaves_) {
      if (!collection.is_valid() || leaf.collection.equal(collection)) level[key] = leaf.value;
    }
    if (!below->has_children()) continue;
    nb::dict deeper = below->to_dict(collection);
    if (deeper.size() != 0) level[key] = deeper;
  }
  return level;
}

std::vector<nb::object> StateTree::collections() const {
  std::vector<nb::object> names;
  const auto add = [&](const nb::object& name) {
    for (const nb::object& known : names) {
      if (known.equal(name)) return;
    }
    names.push_back(name);
  };
  for (const StateLeaf& leaf : leaves_) add(leaf.collection);
  for (const auto& child : children_) {
    for (const nb::object& name : child.second->collections()) add(name);
  }
  return names;
}

std::vector<StateTree::Found> StateTree::unused() const {
  std::vector<Found> found;
  Path path;
  add_unused(path, found);
  return found;
}

void StateTree::add_unused(Path& path, std::vector<Found>& found) const {
  if (!leaves_.empty() && !used_) found.push_back({path, this});
  for (const auto& [key, below] : children_) {
    path.push_back(key);
    below->add_unused(path, found);
    path.pop_back();
  }
}

const StateTree* StateTree::find_leaf(Path& path) const {
  if (!leaves_.empty()) return this;
  for (const auto& [key, below] : children_) {
    path.push_back(key);
    if (const StateTree* found = below->find_leaf(path)) return found;
    path.pop_back();
  }
  return nullptr;
}

std::unique_ptr<StateTree::Conflict> StateTree::first_conflict() const {
  Path path;
  return find_conflict(path);
}

std::unique_ptr<StateTree::Conflict> StateTree::find_conflict(Path& path) const {
  for (const auto& [key, below] : children_) {
    path.push_back(key);
    if (!leaves_.empty()) {
      Path deeper = path;
      if (const StateTree* leaf = below->find_leaf(deeper)) {
        path.pop_back();
        return std::make_unique<Conflict>(
            Conflict{path, leaves_.front().collection, deeper, leaf->leaves_.front().collection});
      }
    }
    if (auto conflict = below->find_conflict(path)) return conflict;
    path.pop_back();
  }
  return nullptr;
}

}  // namespace nnx_wrappers::graph
