#include "bridge/plan/context_queries.h"

namespace nnx_wrappers::bridge {

namespace {

thread_local unsigned long query_count = 0;

}  // namespace

ContextQueries::ContextQueries() : count_before_(query_count) {}

bool ContextQueries::asked() const { return query_count != count_before_; }

void ContextQueries::note() { ++query_count; }

}  // namespace nnx_wrappers::bridge
