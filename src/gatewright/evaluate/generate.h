// Continuing a text token by token, with a key-value cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "gatewright/evaluate/draft_tree.h"
#include "gatewright/evaluate/sampler.h"
#include "gatewright/models/decoder.h"

namespace gatewright {

class Drafter;

/// One pass of a model over tokens that were drafted (see evaluate/drafter.h).
struct CheckedDraft {
  int64_t drafted = 0, accepted = 0;  // tokens; one more was written
  double experts_in_use = 0;          // by any token of the pass, mean over routed layers
};

struct GenerateOptions {
  int64_t max_tokens = 100;
  int64_t num_ids =
      0;  // only ids below it are written, as the model may have more than its tokenizer; 0: all
  SamplingOptions sampling = {};
  uint64_t seed = 0;
  std::vector<int32_t> stop = {};  // ends before any of these tokens
  /// Called with the tokens of the prompt that were read, of all that had to be.
  std::function<void(int64_t done, int64_t total)> reading = {};
  /// Proposes tokens, which one pass checks together; not owned. Each is drawn as without it, so the text is
  /// the same but for the rounding of a pass over several tokens. Refused where routers choose by batch.
  Drafter* drafter = nullptr;
  int64_t draft_tokens = 8;  // at most, in a pass
  std::function<void(const CheckedDraft&)> checked = {};
};

/// A decoder with the keys and values of the tokens that it saw last.
class CachedDecoder {
 public:
  explicit CachedDecoder(Decoder& model);

  /// Tokens that are computed at once, where the routers choose token by token.
  static constexpr int64_t kPiece = 2048;

  /// Logits [V] after these tokens (at least one). What they have in common with those of the call before is
  /// not computed again, unless LongRoPE turns a text of this length by its other list: then all of it is, so
  /// that the logits are those of the whole text in one pass. Empty when Ctrl-C ended it, between pieces.
  /// @param reading  called after each piece with the tokens that are done, of those that had to be computed
  std::span<const float> logits_after(std::span<const int32_t> tokens,
                                      const std::function<void(int64_t done, int64_t total)>& reading = {});
  /// The same [1 + n, V], row by row, and after each of n tokens that may follow them, all in one pass: a
  /// tree of them at most kLargestTokenTree - 1.
  std::span<const float> logits_with(std::span<const int32_t> tokens, const DraftTree& draft,
                                     const std::function<void(int64_t done, int64_t total)>& reading = {});
  /// Takes this path of the last draft, from the end of the text on, for part of the text; the rest is
  /// forgotten.
  void keep(std::span<const int64_t> path);
  const Decoder& model() const { return model_; }
  /// Of the last pass: experts that any of its tokens visited, mean over routed layers; 0 without any.
  double experts_in_use() const;

 private:
  /// Hidden values [1, N, H] after the next tokens of a text, or after each of a tree.
  Tensor compute(std::span<const int32_t> more, int64_t text_length,
                 std::shared_ptr<const TokenTree> tree = {});

  Decoder& model_;
  std::vector<KeyValueCache> cache_;
  std::vector<int32_t> tokens_;   // of a text, that the cache begins with
  DraftTree draft_;               // what lies behind them
  bool by_long_factors_ = false;  // how LongRoPE turned the keys in the cache
  Tensor logits_;
  std::vector<RoutingRecord> routing_;  // of the last pass
};

/// Tokens after `prompt` (at least one token). `see` gets each as it comes; false ends the generation.
std::vector<int32_t> generate(Decoder& model, std::span<const int32_t> prompt, const GenerateOptions& options,
                              const std::function<bool(int32_t)>& see = {});
/// The same; the decoder keeps what it saw for the next call.
std::vector<int32_t> generate(CachedDecoder& model, std::span<const int32_t> prompt,
                              const GenerateOptions& options, const std::function<bool(int32_t)>& see = {});

}  // namespace gatewright
