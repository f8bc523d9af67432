#include "bridge/plan/context_queries.h"

namespace nnx_wrappers::bridge {

namespace {

thread_local unsigned long questions = 0;

}  // namespace

ContextQueries::ContextQueries() : before_(questions) {}

bool ContextQueries::asked() const { return questions != before_; }

void ContextQueries::note() { ++questions; }

}  // namespace nnx_wrappers::bridge
