// BPE by its definition, as slow as it is plain: the reference for the fast one.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/bpe.h"

namespace gatewright {

/// The tokens of one word: the pair of lowest rank, leftmost on a tie, is merged until none is left.
inline std::vector<int32_t> naive_bpe(const BpeVocabulary& vocabulary, std::string_view word) {
  std::vector<int32_t> ids;
  for (const char c : word)
    ids.push_back(static_cast<int32_t>(std::ranges::find(vocabulary.tokens, std::string(1, c)) -
                                       vocabulary.tokens.begin()));
  for (size_t rank = 0; rank < vocabulary.merges.size();) {
    const BpeMerge& merge = vocabulary.merges[rank];
    const int32_t pair[] = {merge.left, merge.right};
    const auto at = std::search(ids.begin(), ids.end(), std::begin(pair), std::end(pair));
    if (at == ids.end()) {
      ++rank;
      continue;
    }
    *at = merge.result;
    ids.erase(at + 1);
    rank = 0;
  }
  return ids;
}

}  // namespace gatewright
