#include "graph/load.h"

#include "nnx_wrappers/errors.h"
#include "py/identity_set.h"
#include "py/recursion.h"
#include "upstream/variable.h"

namespace nnx_wrappers::graph {

namespace {

class Loader {
 public:
  explicit Loader(const Choose& choose) : choose_(choose) {}

  // Returns what has to stand in the parent: the object itself, or its
  // replacement where it could not be changed in place.
  nb::object visit(nb::handle object, upstream::NodeKind kind, StateTree* given) {
    const py::RecursionGuard guard(" while loading variables into an NNX module graph");
    nb::object self = nb::borrow(object);
    if (upstream::has_identity(kind) && !seen_.insert(object)) return self;
    switch (kind) {
      case upstream::NodeKind::kLeaf:
      case upstream::NodeKind::kVariable:
      case upstream::NodeKind::kArrayRef:
        return leaf(std::move(self), kind, given);
      default:
        return node(self, kind, given);
    }
  }

 private:
  nb::object leaf(nb::object self, upstream::NodeKind kind, StateTree* given) {
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

  nb::object node(const nb::object& self, upstream::NodeKind kind, StateTree* given) {
    std::vector<upstream::Child> children = upstream::children_of(self, kind);
    bool rebuild = false;
    for (upstream::Child& child : children) {
      path_.push_back(child.key);
      StateTree* below = given == nullptr ? nullptr : given->child_of_module(child.key);
      nb::object loaded = visit(child.value, child.kind, below);
      if (!loaded.is(child.value)) {
        if (!upstream::set_child(self, kind, child.key, loaded)) rebuild = true;
        child.value = std::move(loaded);
      }
      path_.pop_back();
    }
    return rebuild ? upstream::rebuild(self, kind, children) : self;
  }

  const Choose& choose_;
  Path path_;
  py::IdentitySet seen_;
};

}  // namespace

void load(nb::handle root, StateTree& given, const Choose& choose) {
  const upstream::NodeKind kind = upstream::kind_of(root);
  const nb::object loaded = Loader(choose).visit(root, kind, &given);
  if (!loaded.is(root)) throw InternalError("the root of a module graph was replaced");
}

}  // namespace nnx_wrappers::graph
