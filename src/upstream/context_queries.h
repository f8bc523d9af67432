// Finds out whether a constructor asks about Linen's context. What it does may depend on the
// answer, so then it has no plan.
#pragma once

namespace nnx_wrappers::upstream {

// Tells whether this thread has asked since the object was made.
class ContextQueries {
 public:
  ContextQueries();

  bool asked() const;

  // Notes a query; called by the functions that answer it.
  static void note();

  // Notes a query about the innermost module, unless the constructor itself runs that one.
  static void note_outer();

 private:
  unsigned long count_before_;
};

}  // namespace nnx_wrappers::upstream
