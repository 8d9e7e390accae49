// Who proposes tokens that a large model then checks several at a time (speculative decoding: Leviathan et
// al. 2023, "Fast Inference from Transformers via Speculative Decoding"). Whatever is proposed, the text is
// the one that the large model writes alone; only the time differs.
#pragma once

#include <span>
#include <vector>

#include "gatewright/evaluate/draft_tree.h"
#include "gatewright/evaluate/generate.h"

namespace gatewright {

class Drafter {
 public:
  virtual ~Drafter() = default;
  /// At most so many tokens that may follow the text; none when it has no idea.
  virtual DraftTree draft(std::span<const int32_t> text, int64_t most) = 0;
};

/// What followed the last tokens of the text when they last stood in it (prompt lookup, as for code that is
/// edited and text that quotes): the longest run of at most `longest` tokens that occurs before decides, of
/// equals the last. With more `branches` what followed each of so many places.
class LookupDrafter final : public Drafter {
 public:
  static constexpr int64_t kLongest = 4;
  explicit LookupDrafter(int64_t longest = kLongest, int64_t branches = 1);
  DraftTree draft(std::span<const int32_t> text, int64_t most) override;

 private:
  int64_t longest_, branches_;
};

struct DraftBranches {
  int64_t branches = 1;  // tokens that go on at each level, and children of each; 1: one continuation
  int64_t depth = 3;     // levels, with more than one branch
};

/// The most likely continuation by a smaller model with the same vocabulary, which is borrowed. With more
/// branches a tree (Li et al. 2024, "EAGLE-2", section 4): in each level the tokens of the most likely paths
/// get the most likely children, and of all that were proposed those on the most likely paths are drafted.
class ModelDrafter final : public Drafter {
 public:
  /// Fails when what goes on does not fit into a pass: branches x (depth - 1) < kLargestTokenTree.
  explicit ModelDrafter(Decoder& model, const DraftBranches& branches = {});
  DraftTree draft(std::span<const int32_t> text, int64_t most) override;

 private:
  CachedDecoder model_;
  DraftBranches branches_;
};

}  // namespace gatewright
