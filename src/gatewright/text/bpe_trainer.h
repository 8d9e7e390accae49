// Learns a byte-level BPE vocabulary from text (Sennrich et al. 2016, algorithm 1; on bytes as Radford et al.
// 2019): the pair of neighbouring tokens that occurs most often becomes a token, again and again.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "gatewright/text/tokenizer.h"
#include "gatewright/text/word_counts.h"

namespace gatewright {

struct BpeTrainerOptions {
  int64_t vocab_size = 8192;  // 256 bytes, <|endoftext|> and the merges: at least 257
  int64_t min_frequency = 2;  // a pair that occurs less often is not merged; at least 1
  /// Called now and then with the merges made so far, and at the end.
  std::function<void(int64_t merges, int64_t wanted)> progress = {};
};

struct BpeTraining {
  Tokenizer tokenizer;
  int64_t merges = 0;
  bool ran_out = false;  // no pair was left to merge before the vocabulary reached its size
};

class BpeTrainer {
 public:
  /// Counts the words of a text (any bytes), in parallel when it is long. The text may go afterwards. Two
  /// calls are two texts: no word reaches across.
  void add(std::string_view text);

  /// Ids: the 256 bytes in the order of byte_alphabet_order(), <|endoftext|>, then the merges. Among pairs
  /// that occur equally often the one with the lower ids wins (as in Hugging Face's trainer), so the result
  /// depends only on how often each word was added. Errors: vocab_size or min_frequency out of range.
  BpeTraining train(const BpeTrainerOptions& options) const;

 private:
  WordCounts words_;
};

}  // namespace gatewright
