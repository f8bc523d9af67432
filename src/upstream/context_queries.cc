#include "upstream/context_queries.h"

#include "upstream/linen.h"

namespace nnx_wrappers::upstream {

namespace {

thread_local unsigned long query_count = 0;

}  // namespace

ContextQueries::ContextQueries() : count_before_(query_count) {}

bool ContextQueries::asked() const { return query_count != count_before_; }

void ContextQueries::note() { ++query_count; }

void ContextQueries::note_outer() {
  if (NoLinenModule::is_innermost()) note();
}

}  // namespace nnx_wrappers::upstream
