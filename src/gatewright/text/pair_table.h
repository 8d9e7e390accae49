// A hash table from pairs of token ids to small values: open addressing, at most half full.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gatewright {

template <typename Value>
class PairTable {
 public:
  explicit PairTable(size_t expected = 0) {
    size_t slots = 16;
    while (slots < expected * 2) slots *= 2;
    slots_.resize(slots);
  }

  size_t size() const { return size_; }

  /// Nothing when the pair is not there. Ids are not negative.
  const Value* find(int32_t left, int32_t right) const {
    const Slot& slot = slots_[slot_of(key(left, right))];
    return slot.key == kEmpty ? nullptr : &slot.value;
  }

  struct Inserted {
    Value& value;
    bool is_new;
  };
  /// The value of the pair; `initial` is put there first when the pair is new.
  Inserted insert(int32_t left, int32_t right, const Value& initial) {
    if (size_ * 2 >= slots_.size()) grow();
    const uint64_t wanted = key(left, right);
    Slot& slot = slots_[slot_of(wanted)];
    if (slot.key == wanted) return {slot.value, false};
    slot = {wanted, initial};
    ++size_;
    return {slot.value, true};
  }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  struct Slot {
    uint64_t key = kEmpty;
    Value value{};
  };

  static uint64_t key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  /// Where the key is, or the empty slot where it would be.
  size_t slot_of(uint64_t wanted) const {
    const size_t mask = slots_.size() - 1;
    size_t at = mix(wanted) & mask;
    while (slots_[at].key != wanted && slots_[at].key != kEmpty) at = (at + 1) & mask;
    return at;
  }
  static size_t mix(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(x ^ x >> 32);
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.key != kEmpty) slots_[slot_of(slot.key)] = slot;
  }

  std::vector<Slot> slots_;
  size_t size_ = 0;
};

}  // namespace gatewright
