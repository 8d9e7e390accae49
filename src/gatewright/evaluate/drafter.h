// Who proposes tokens that a large model then checks several at a time (speculative decoding: Leviathan et
// al. 2023, "Fast Inference from Transformers via Speculative Decoding"). Whatever is proposed, the text is
// the one that the large model writes alone; only the time differs.
#pragma once

#include <span>
#include <vector>

#include "gatewright/evaluate/generate.h"

namespace gatewright {

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// At most so many tokens that may follow the text; none when it has no idea.
  virtual std::vector<int32_t> draft(std::span<const int32_t> text, int64_t most) = 0;
};

/// What followed the last tokens of the text when they last stood in it (prompt lookup, as for code that is
/// edited and text that quotes): the longest run of at most `longest` tokens that occurs before decides.
class LookupDrafter final : public Drafter {
 public:
  explicit LookupDrafter(int64_t longest = 4);
  std::vector<int32_t> draft(std::span<const int32_t> text, int64_t most) override;

 private:
  int64_t longest_;
};

/// The most likely continuation by a smaller model with the same vocabulary, which is borrowed.
class ModelDrafter final : public Drafter {
 public:
  explicit ModelDrafter(Decoder& model) : model_(model) {}
  std::vector<int32_t> draft(std::span<const int32_t> text, int64_t most) override;

 private:
  CachedDecoder model_;
};

}  // namespace gatewright
