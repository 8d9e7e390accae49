// Byte-pair encoding by ranks (Sennrich et al. 2016; on bytes: Radford et al. 2019): the merging of one word.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gatewright/text/merge_loop.h"
#include "gatewright/text/pair_table.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {

/// Merges words by rank, lowest first, leftmost on a tie. A byte (or character) without a token becomes what
/// UnknownText says; where that is nothing, its neighbours merge as if it was not there.
class BpeMerger final : public TokenizerModel {
 public:
  /// Errors name `what`: a merge whose tokens do not exist or do not fit together, or that would make a
  /// special token, a pair merged twice. The definition must live as long.
  BpeMerger(const TokenizerDefinition& definition, std::string_view what);

  void encode_word(std::string_view word, std::vector<int32_t>& out) const override;
  /// Whether each of the 256 bytes has a token.
  bool knows_every_byte() const;

  // What MergeLoop asks.
  FirstToken first(std::string_view word, uint32_t place) const;
  RankedMerge merged(int32_t left, int32_t right, std::string_view) const {
    const RankedMerge* found = left < 0 || right < 0 ? nullptr : table_.find(left, right);
    return found ? *found : RankedMerge{};
  }

 private:
  std::string without_unknown(std::string_view word) const;

  bool byte_level_, fuse_unknown_, ignore_merges_;
  bool may_leave_out_ = false;  // a byte or character may have no token and leave none
  std::array<int32_t, 256> byte_token_;
  std::unordered_map<uint32_t, int32_t> character_token_;      // by code point
  std::unordered_map<std::string_view, int32_t> whole_words_;  // where merges are ignored for them
  PairTable<RankedMerge> table_;
  UnknownText unknown_;
};

}  // namespace gatewright
