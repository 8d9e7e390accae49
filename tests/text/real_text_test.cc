// The whole way from real files to batches. The files are looked for in $GATEWRIGHT_DATA, else beside the
// sources.
#include <gmock/gmock.h>

#include <cstdlib>

#include "gatewright/text/bpe_trainer.h"
#include "gatewright/text/packing.h"
#include "gatewright/text/tokenized_corpus.h"
#include "tests/text/test_text.h"

namespace gatewright {
namespace {

std::filesystem::path data_folder() {
  if (const char* given = std::getenv("GATEWRIGHT_DATA")) return given;
  return std::filesystem::path(GATEWRIGHT_SOURCE_DIR) / "../shared/data";
}

TEST(RealText, EveryByteOfBooksAndStoriesIsPredictedOnce) {
  const std::filesystem::path text = data_folder() / "text";
  const std::vector<std::filesystem::path> paths = {text / "tinyshakespeare.txt.gz",
                                                    text / "tinystories_sample.jsonl.gz",
                                                    text / "udhr_multilingual.jsonl.gz"};
  for (const std::filesystem::path& path : paths)
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  const Corpus corpus = Corpus::read(paths);
  EXPECT_THAT(corpus.domains(),
              testing::ElementsAre("tinyshakespeare", "tinystories_sample", "udhr_multilingual"));
  BpeTrainer trainer;
  for (const CorpusDocument& document : corpus.train()) trainer.add(document.text);
  const Tokenizer tokenizer = trainer.train({.vocab_size = 1024}).tokenizer;

  const TemporaryFolder folder;
  const TokenCache cache = tokenize_corpus(folder.path(), tokenizer, corpus);
  EXPECT_EQ(cache.bytes(Part::kTrain) + cache.bytes(Part::kValidation), corpus.bytes());
  ValidationStream validation(cache, 256, token_byte_lengths(tokenizer));
  const PackedBatch all = validation.next(validation.sequences());
  EXPECT_EQ(all.bytes, cache.bytes(Part::kValidation));
  for (int64_t bytes : all.domain_bytes) EXPECT_GT(bytes, 1000);
  TrainStream train(cache, 256, token_byte_lengths(tokenizer), 1);
  EXPECT_EQ(train.next(train.sequences_per_epoch()).bytes, cache.bytes(Part::kTrain));
}

}  // namespace
}  // namespace gatewright
