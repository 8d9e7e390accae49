#include "gatewright/text/bpe_trainer.h"

#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/text/byte_alphabet.h"
#include "gatewright/text/gpt2_scanner.h"
#include "gatewright/text/merge_learner.h"

namespace gatewright {
namespace {

constexpr size_t kPiece = size_t{1} << 20;  // bytes; shorter texts are counted by one thread
constexpr int64_t kReportEvery = 64;        // merges

void count_words(std::string_view text, size_t begin, size_t end, WordCounts& counts) {
  Gpt2Scanner scanner(text, begin);
  while (scanner.position() < end) counts.add(scanner.next());
}

BpeVocabulary first_tokens() {
  BpeVocabulary vocabulary;
  for (const uint8_t byte : byte_alphabet_order()) vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
  const auto id = static_cast<int32_t>(vocabulary.tokens.size());
  vocabulary.tokens.emplace_back(kEndOfText);
  vocabulary.added.push_back({.id = id, .content = std::string(kEndOfText)});
  return vocabulary;
}

}  // namespace

void BpeTrainer::add(std::string_view text) {
  const auto pieces = static_cast<int64_t>(text.size() / kPiece);
  if (pieces <= 1) return count_words(text, 0, text.size(), words_);
  // Each thread takes neighbouring pieces, so it needs one border of its own.
  std::vector<WordCounts> counts(static_cast<size_t>(num_threads()));
  parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
    const size_t begin = Gpt2Scanner::next_border(text, static_cast<size_t>(first) * kPiece);
    const size_t end =
        last == pieces ? text.size() : Gpt2Scanner::next_border(text, static_cast<size_t>(last) * kPiece);
    count_words(text, begin, end, counts[static_cast<size_t>(omp_get_thread_num())]);
  });
  for (const WordCounts& part : counts) words_.add(part);
}

BpeTraining BpeTrainer::train(const BpeTrainerOptions& options) const {
  BpeVocabulary first = first_tokens();
  const auto smallest = static_cast<int64_t>(first.tokens.size());
  require(options.vocab_size >= smallest && options.vocab_size <= INT32_MAX,
          "the vocabulary must have at least {} tokens (256 bytes and {}), and at most {}; got {}", smallest,
          kEndOfText, INT32_MAX, options.vocab_size);
  require(options.min_frequency >= 1, "the least frequency of a pair must be at least 1, got {}",
          options.min_frequency);
  MergeLearner learner(words_, std::move(first));
  const BpeVocabulary& vocabulary = learner.vocabulary();
  const int64_t wanted = options.vocab_size - smallest;
  const auto made = [&] { return static_cast<int64_t>(vocabulary.merges.size()); };
  bool ran_out = false;
  while (static_cast<int64_t>(vocabulary.tokens.size()) < options.vocab_size) {
    if (!learner.merge_next(options.min_frequency)) {
      ran_out = true;
      break;
    }
    if (options.progress && made() % kReportEvery == 0) options.progress(made(), wanted);
  }
  if (options.progress) options.progress(made(), wanted);
  return {.tokenizer = Tokenizer(vocabulary, "the trained tokenizer"), .merges = made(), .ran_out = ran_out};
}

}  // namespace gatewright
