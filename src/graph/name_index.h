// Which holders have a name, so that a name is looked up in these alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

struct _object;

namespace nnx_wrappers::graph {

// By interned names, which it compares by address and does not own: who finds a holder looks the
// name up there.
template <typename Holder>
class NameIndex {
 public:
  // Makes room for as many names as a program with all of JAX in reach has.
  NameIndex() { last_.reserve(kExpected); }

  void add(const _object* name, Holder* holder) {
    const auto [place, is_new] = last_.try_emplace(name, kNone);
    entries_.push_back({holder, place->second});
    place->second = static_cast<std::uint32_t>(entries_.size() - 1);
  }

  // Calls `visit` with each holder of the name. It must add none.
  template <typename Visit>
  void for_each(const _object* name, const Visit& visit) const {
    const auto found = last_.find(name);
    if (found == last_.end()) return;
    for (std::uint32_t at = found->second; at != kNone; at = entries_[at].previous)
      visit(*entries_[at].holder);
  }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  static constexpr size_t kExpected = 16'384;
  struct Entry {
    Holder* holder;
    std::uint32_t previous;  // of the same name
  };
  std::unordered_map<const _object*, std::uint32_t> last_;  // the last entry of a name
  std::vector<Entry> entries_;
};

}  // namespace nnx_wrappers::graph
