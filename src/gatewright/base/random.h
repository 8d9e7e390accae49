// Random numbers. Every draw comes from a named stream of one seed, so that adding a draw in one place
// changes none elsewhere. A stream is counter-based (Philox 4x32-10, Salmon et al. 2011): its state is one
// number.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace gatewright {

class RandomStream {
 public:
  /// Streams of the same seed with different names are independent.
  RandomStream(uint64_t seed, std::string_view name);

  uint32_t next_u32();
  uint64_t next_u64();
  /// In [0, 1), 24 bits: the same as float or double.
  float uniform();
  /// In [0, 1), 53 bits.
  double uniform_double();
  /// Standard normal (Box-Muller); always four words.
  float normal();
  /// Uniform in [0, n), without bias. n > 0.
  uint64_t below(uint64_t n);

  template <typename T>
  void shuffle(std::span<T> values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

  /// How many 32-bit words were drawn; setting it resumes exactly there.
  uint64_t position() const { return position_; }
  void seek(uint64_t position) {
    position_ = position;
    block_ = ~uint64_t{0};
  }

 private:
  uint64_t key_;
  uint64_t position_ = 0;
  uint64_t block_ = ~uint64_t{0};
  uint32_t words_[4] = {};
};

}  // namespace gatewright
