// Real text as domains: windows of what was read, validation apart, and what is said when files are missing.
#include "experiments/real_text.h"

#include <gmock/gmock.h>

#include <array>

#include "tests/testing.h"

namespace gatewright::experiments {
namespace {

using testing::HasSubstr;

/// Files as they are expected, but plain: what is not compressed is read as it is.
void write_all(const TemporaryFolder& folder) {
  std::string prose, lines;
  for (int i = 0; i < 400; ++i) prose += "The " + std::to_string(i * 37 % 101) + "th gate opens.\n";
  for (int i = 0; i < 40; ++i)
    lines += R"({"text": "Once upon a time, )" + std::to_string(i) + R"("})" + "\n";
  for (const char* file : {"tinyshakespeare.txt.gz", "war_and_peace.txt.gz", "wikitext2_valid.txt.gz"})
    folder.write(std::string("text/") + file, file + prose);
  folder.write("text/wikitext2_test.txt.gz", std::string(2000, 'z'));
  for (const char* file :
       {"tinystories_sample.jsonl.gz", "genesis_8_versions.jsonl.gz", "us_presidential_speeches.jsonl.gz"})
    folder.write(std::string("text/") + file, lines);
  std::string sums, java;
  for (int i = 0; i < 40; ++i) {
    sums +=
        R"({"question": "How much is )" + std::to_string(i) + R"( and 1?", "answer": "It is more."})" + "\n";
    java += R"({"java": "int f)" + std::to_string(i) + R"(() { return 1; }", "csharp": "-"})" + "\n";
  }
  folder.write("text/gsm8k_train.jsonl.gz", sums);
  folder.write("text/gsm8k_test.jsonl.gz", sums);
  folder.write("text/code_java_csharp.jsonl.gz", java);
}

TEST(RealText, GivesWindowsOfEachDomainAndKeepsValidationApart) {
  TemporaryFolder folder;
  write_all(folder);
  Events events;
  const RealText text(folder.path(), events);
  const Domains domains = text.domains(std::array<std::string_view, 2>{"encyclopedia", "maths"});
  EXPECT_EQ(domains.vocabulary, RealText::kVocabulary);
  ASSERT_EQ(domains.training.size(), 2u);
  RandomStream random(1, "test");
  const auto seen = domains.training[0]->sequence(20, random), fresh = domains.fresh[0]->sequence(20, random);
  EXPECT_EQ(seen.size(), 21u);
  // Nothing but the file for validation has a z after a z.
  EXPECT_NE(seen, fresh);
  for (size_t i = 1; i < fresh.size() - 1; ++i) EXPECT_EQ(fresh[i], fresh[i - 1]);
  EXPECT_THAT(error_of([&] { (void)domains.fresh[0]->sequence(1 << 20, random); }),
              HasSubstr("no sequence of"));
  EXPECT_THAT(error_of([&] { (void)text.domains(std::array<std::string_view, 1>{"poems"}); }),
              HasSubstr("poems"));
}

TEST(RealText, NamesEveryFileThatIsMissingAndTheLineThatIsWrong) {
  TemporaryFolder folder;
  Events events;
  EXPECT_THAT(error_of([&] { RealText(folder.path(), events); }),
              HasSubstr("text/tinyshakespeare.txt.gz, text/war_and_peace.txt.gz"));
  write_all(folder);
  folder.write("text/gsm8k_train.jsonl.gz", "{\"question\": \"?\", \"answer\": \"!\"}\n{\"question\": 1}\n");
  EXPECT_THAT(error_of([&] { RealText(folder.path(), events); }), HasSubstr("line 2 has no text 'question'"));
}

}  // namespace
}  // namespace gatewright::experiments
