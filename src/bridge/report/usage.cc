#include "bridge/report/usage.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "nnx_wrappers/usage.h"
#include "py/object.h"
#include "upstream/linen.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

struct Table {
  bool recording = false;
  std::map<std::pair<std::string, std::string>, UsageRow> rows;
};

Table& table() {
  static Table table;  // holds no Python object
  return table;
}

thread_local std::shared_ptr<CallClock> innermost;

}  // namespace

void UsageRow::add(const UsageRow& other) {
  inits += other.inits;
  calls += other.calls;
  plans_built += other.plans_built;
  plan_hits += other.plan_hits;
  for (const auto& [reason, count] : other.not_planned) not_planned[reason] += count;
  for (const auto& [changed, count] : other.rebuilt) rebuilt[changed] += count;
  time += other.time;
}

void CallClock::start() {
  running_ = true;
  since_ = std::chrono::steady_clock::now();
}

void CallClock::stop() {
  if (!running_) return;
  running_ = false;
  time_ += std::chrono::steady_clock::now() - since_;
}

UsageOfCall::UsageOfCall(const char* wrapper, nb::handle wrapped) {
  if (!table().recording) return;
  const bool is_class = std::string(wrapper) == "ToLinen";
  key_ = {wrapper, py::full_name(is_class ? wrapped : nb::handle(wrapped.type()))};
  counts_.calls = 1;
  clock_ = std::make_shared<CallClock>();
  outer_ = std::exchange(innermost, clock_);
  if (outer_ != nullptr) {
    outer_was_running_ = outer_->is_running();
    outer_->stop();
  }
  clock_->start();
}

UsageOfCall::~UsageOfCall() {
  if (clock_ == nullptr) return;
  clock_->stop();
  counts_.time = clock_->time();
  table().rows[key_].add(counts_);
  if (outer_was_running_) outer_->start();
  innermost = std::move(outer_);
}

void UsageOfCall::plan_built(const std::string& changed) {
  counts_.plans_built = 1;
  if (clock_ != nullptr && !changed.empty()) counts_.rebuilt[changed] = 1;
}

void UsageOfCall::not_planned(const std::string& reason) {
  if (clock_ != nullptr) counts_.not_planned[reason] = 1;
}

void UsageOfCall::plan_rejected(const std::string& reason) {
  counts_.plans_built = counts_.plan_hits = 0;
  counts_.rebuilt.clear();
  not_planned(reason);
}

}  // namespace nnx_wrappers::bridge

namespace nnx_wrappers {

namespace nb = nanobind;

bool record_usage(bool enabled) { return std::exchange(bridge::table().recording, enabled); }

nb::list usage() {
  // Copied, since making Python objects may run finalizers, which may call a wrapper.
  const auto copy = bridge::table().rows;
  std::vector<std::pair<std::pair<std::string, std::string>, bridge::UsageRow>> rows(copy.begin(),
                                                                                     copy.end());
  std::ranges::sort(rows, [](const auto& left, const auto& right) {
    return left.second.time > right.second.time;
  });
  nb::list result;
  for (const auto& [key, row] : rows) {
    nb::dict not_planned;
    for (const auto& [reason, count] : row.not_planned) not_planned[reason.c_str()] = count;
    nb::dict rebuilt;
    for (const auto& [changed, count] : row.rebuilt) rebuilt[changed.c_str()] = count;
    nb::dict entry;
    entry["wrapper"] = key.first;
    entry["wrapped"] = key.second;
    entry["inits"] = row.inits;
    entry["calls"] = row.calls;
    entry["plans_built"] = row.plans_built;
    entry["plan_hits"] = row.plan_hits;
    entry["rebuilt"] = rebuilt;
    entry["not_planned"] = not_planned;
    entry["seconds"] = std::chrono::duration<double>(row.time).count();
    result.append(entry);
  }
  return result;
}

void clear_usage() { bridge::table().rows.clear(); }

}  // namespace nnx_wrappers
