#include "gatewright/train/training_data.h"

#include <fmt/format.h>

#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/tokenized_corpus.h"

namespace gatewright {
namespace {

constexpr int64_t kMostTokenizerBytes = 100'000'000;

int64_t train_bytes(const Corpus& corpus) {
  int64_t bytes = 0;
  for (const CorpusDocument& d : corpus.train()) bytes += static_cast<int64_t>(d.text.size());
  return bytes;
}

}  // namespace

Tokenizer train_tokenizer(const Corpus& corpus, int64_t vocab_size, Events& events) {
  const int64_t bytes = train_bytes(corpus), keep_one_in = 1 + bytes / kMostTokenizerBytes;
  BpeTrainer trainer;
  int64_t done = 0;
  for (size_t i = 0; i < corpus.train().size(); ++i) {
    const CorpusDocument& document = corpus.train()[i];
    done += static_cast<int64_t>(document.text.size());
    if (static_cast<int64_t>(i) % keep_one_in != 0) continue;
    trainer.add(document.text);
    events.progress("counting words", "MB", static_cast<double>(done) / 1e6,
                    static_cast<double>(bytes) / 1e6);
  }
  BpeTraining training = trainer.train(
      {.vocab_size = vocab_size, .progress = [&](int64_t merges, int64_t wanted) {
         events.progress("merging pairs", "merges", static_cast<double>(merges), static_cast<double>(wanted));
       }});
  if (training.ran_out)
    events.warn(fmt::format("the text has no more pairs to merge: the vocabulary has {} tokens, not {}",
                            training.tokenizer.vocab_size(), vocab_size));
  return std::move(training.tokenizer);
}

TrainingData prepare_data(const Corpus& corpus, Tokenizer tokenizer, const std::filesystem::path& folder,
                          Events& events) {
  TokenCache cache = tokenize_corpus(folder, tokenizer, corpus, [&](int64_t done, int64_t total) {
    events.progress("tokenising", "MB", static_cast<double>(done) / 1e6, static_cast<double>(total) / 1e6);
  });
  if (cache.origin() == TokenCache::Origin::kRebuilt)
    events.warn(fmt::format("the token cache was made anew: {}", cache.rebuilt_because()));
  std::vector<int32_t> lengths = token_byte_lengths(tokenizer);
  return {.tokenizer = std::move(tokenizer), .cache = std::move(cache), .token_bytes = std::move(lengths)};
}

}  // namespace gatewright
