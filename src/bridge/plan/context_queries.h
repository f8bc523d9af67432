// Whether a constructor asked where it stands in Linen while it was being planned:
// what it does may then depend on the answer, which a plan could not.
#pragma once

namespace nnx_wrappers::bridge {

// Tells what this thread asked since it was made.
class ContextQueries {
 public:
  ContextQueries();

  bool asked() const;

  // Called by the functions that answer.
  static void note();

 private:
  unsigned long before_;
};

}  // namespace nnx_wrappers::bridge
