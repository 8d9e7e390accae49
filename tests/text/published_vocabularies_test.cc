// The encodings that were published with vocabularies of many families. The files are looked for in
// $GATEWRIGHT_DATA, else beside the sources.
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <sstream>

#include "gatewright/base/file.h"
#include "gatewright/text/tokenizer.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

std::filesystem::path vocabularies() {
  if (const char* given = std::getenv("GATEWRIGHT_DATA"))
    return std::filesystem::path(given) / "weights/gguf_vocab";
  return std::filesystem::path(GATEWRIGHT_SOURCE_DIR) / "../shared/data/weights/gguf_vocab";
}

std::string unpacked(const std::filesystem::path& path) {
  const gzFile file = gzopen(path.c_str(), "rb");
  std::string bytes, part(1 << 16, '\0');
  for (int read = 0; (read = gzread(file, part.data(), static_cast<unsigned>(part.size()))) > 0;)
    bytes.append(part, 0, static_cast<size_t>(read));
  gzclose(file);
  return bytes;
}

std::vector<std::string> parts_of(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t at = text.find(separator); at != std::string::npos; at = text.find(separator, begin)) {
    parts.push_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

class PublishedVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(PublishedVocabulary, GivesThePublishedEncodings) {
  const std::filesystem::path base = vocabularies() / fmt::format("ggml-vocab-{}.gguf", GetParam());
  const auto with = [&](const char* suffix) { return std::filesystem::path(base.string() + suffix); };
  if (!std::filesystem::exists(with(".gz"))) GTEST_SKIP() << base << " is not here";
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(folder.write("vocabulary.gguf", unpacked(with(".gz"))));
  const Tokenizer from_json = Tokenizer::parse(tokenizer.to_json(), "what we wrote");
  const std::vector<std::string> texts = parts_of(read_file(with(".inp")), "\n__ggml_vocab_test__\n");
  std::istringstream lines(read_file(with(".out")));
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    std::istringstream numbers(line);
    const std::vector<int32_t> expected{std::istream_iterator<int32_t>(numbers), {}};
    ASSERT_LT(count, texts.size());
    EXPECT_EQ(tokenizer.encode(texts[count]), expected) << texts[count];
    EXPECT_EQ(from_json.encode(texts[count]), expected) << "through tokenizer.json: " << texts[count];
    if (tokenizer.kind() != TokenizerKind::kWordPiece) {
      EXPECT_EQ(tokenizer.decode(expected), texts[count]);
    }
  }
  EXPECT_EQ(count, 46u);
}

/// As the published tokenizer.json of Phi-3-mini has it: 32010 "<|user|>", 15043 "\u2581Hello", 32007
/// "<|end|>", 32001 "<|assistant|>".
TEST(PublishedPhi3, TakesTheLineEndsOfAConversationIntoItsTokens) {
  const std::filesystem::path packed = vocabularies() / "ggml-vocab-phi-3.gguf.gz";
  if (!std::filesystem::exists(packed)) GTEST_SKIP() << packed << " is not here";
  const TemporaryFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(folder.write("vocabulary.gguf", unpacked(packed)));
  const std::vector<int32_t> ids =
      tokenizer.encode("<|user|>\nHello<|end|>\n<|assistant|>\n", {.parse_special = true});
  EXPECT_EQ(ids, (std::vector<int32_t>{32010, 15043, 32007, 32001}));
  EXPECT_EQ(Tokenizer::parse(tokenizer.to_json(), "what we wrote")
                .encode("<|user|>\nHello<|end|>\n<|assistant|>\n", {.parse_special = true}),
            ids);
}

INSTANTIATE_TEST_SUITE_P(Families, PublishedVocabulary,
                         testing::Values("gpt-2", "falcon", "starcoder", "refact", "mpt", "deepseek-coder",
                                         "deepseek-llm", "llama-spm", "phi-3", "bert-bge"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace gatewright
