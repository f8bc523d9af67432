#include "bridge/context_questions.h"

namespace nnx_wrappers::bridge {

namespace {

thread_local unsigned long questions = 0;

}  // namespace

ContextQuestions::ContextQuestions() : before_(questions) {}

bool ContextQuestions::asked() const { return questions != before_; }

void ContextQuestions::note() { ++questions; }

}  // namespace nnx_wrappers::bridge
