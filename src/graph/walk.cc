#include "graph/walk.h"

#include "py/identity_set.h"
#include "py/recursion.h"

namespace nnx_wrappers::graph {

namespace {

class Walk {
 public:
  explicit Walk(const WalkEvents& events) : events_(events) {}

  void visit(nb::handle object, upstream::NodeKind kind) {
    const py::RecursionGuard guard(" while walking an NNX module graph");
    if (upstream::has_identity(kind) && !seen_.insert(object)) return;
    switch (kind) {
      case upstream::NodeKind::kLeaf:
      case upstream::NodeKind::kVariable:
      case upstream::NodeKind::kArrayRef:
        if (events_.on_leaf) events_.on_leaf(path_, object, kind);
        return;
      default:
        break;
    }
    if (events_.on_node && !events_.on_node(path_, object, kind)) return;
    for (upstream::Child& child : upstream::children_of(object, kind)) {
      path_.push_back(child.key);
      visit(child.value, child.kind);
      path_.pop_back();
    }
  }

 private:
  const WalkEvents& events_;
  Path path_;
  py::IdentitySet seen_;
};

}  // namespace

void walk(nb::handle root, const WalkEvents& events) {
  Walk(events).visit(root, upstream::kind_of(root));
}

std::vector<nb::object> pytrees_of(nb::handle root) {
  std::vector<nb::object> found;
  WalkEvents events;
  events.on_node = [&](const Path&, nb::handle node, upstream::NodeKind) {
    if (upstream::is_pytree(node)) found.push_back(nb::borrow(node));
    return true;
  };
  walk(root, events);
  return found;
}

}  // namespace nnx_wrappers::graph
