// From paths to token streams: documents, tokenizer, token cache.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "gatewright/text/corpus.h"
#include "gatewright/text/packing.h"
#include "gatewright/text/tokenizer.h"
#include "gatewright/train/events.h"

namespace gatewright {

struct TrainingData {
  Tokenizer tokenizer;
  TokenCache cache;
  std::vector<int32_t> token_bytes;  // [vocab_size]
};

/// A byte-level BPE of `vocab_size` trained on the corpus' training part (of long ones, documents spread over
/// it up to 100 MB). Tells when the text has fewer pairs to merge.
Tokenizer train_tokenizer(const Corpus& corpus, int64_t vocab_size, Events& events);

/// Tokenises the corpus into a cache in `folder`, or finds it there.
TrainingData prepare_data(const Corpus& corpus, Tokenizer tokenizer, const std::filesystem::path& folder,
                          Events& events);

}  // namespace gatewright
