#include "graph/load.h"

#include "nnx_wrappers/errors.h"
#include "py/identity_set.h"
#include "py/recursion.h"
#include "upstream/variable.h"

namespace nnx_wrappers::graph {

namespace {

class Loader {
 public:
  explicit Loader(const ChooseValue& choose) : choose_(choose) {}

  // Returns the object itself, or the object that has to replace it in its parent.
  nb::object visit(nb::handle object, upstream::NodeKind kind, StateTree* given) {
    const py::RecursionGuard guard(" while loading variables into an NNX module graph");
    nb::object self = nb::borrow(object);
    if (upstream::has_identity(kind) && !seen_.insert(object)) return self;
    switch (kind) {
      case upstream::NodeKind::kLeaf:
      case upstream::NodeKind::kVariable:
      case upstream::NodeKind::kArrayRef:
        return load_leaf(std::move(self), kind, given);
      default:
        return load_node(self, kind, given);
    }
  }

 private:
  nb::object load_leaf(nb::object self, upstream::NodeKind kind, StateTree* given) {
    if (given == nullptr || (given->leaves().empty() && !given->has_children())) return self;
    given->mark_all_used();
    nb::object value = choose_(path_, self, kind, *given);
    if (!value.is_valid()) return self;
    if (kind == upstream::NodeKind::kVariable) {
      upstream::store_value(self, value);
      return self;
    }
    if (kind == upstream::NodeKind::kArrayRef) {
      self[nb::ellipsis()] = value;
      return self;
    }
    return value;
  }

  nb::object load_node(const nb::object& self, upstream::NodeKind kind, StateTree* given) {
    std::vector<upstream::Child> children = upstream::children_of(self, kind);
    bool has_to_be_rebuilt = false;
    for (upstream::Child& child : children) {
      path_.push_back(child.key);
      StateTree* below = given == nullptr ? nullptr : given->child_for_module_key(child.key);
      nb::object loaded = visit(child.value, child.kind, below);
      if (!loaded.is(child.value)) {
        if (!upstream::set_child(self, kind, child.key, loaded)) has_to_be_rebuilt = true;
        child.value = std::move(loaded);
      }
      path_.pop_back();
    }
    return has_to_be_rebuilt ? upstream::rebuild(self, kind, children) : self;
  }

  const ChooseValue& choose_;
  Path path_;
  py::IdentitySet seen_;
};

}  // namespace

void load(nb::handle root, StateTree& given, const ChooseValue& choose) {
  const upstream::NodeKind kind = upstream::kind_of(root);
  const nb::object loaded = Loader(choose).visit(root, kind, &given);
  if (!loaded.is(root)) throw InternalError("the root of a module graph was replaced");
}

}  // namespace nnx_wrappers::graph
