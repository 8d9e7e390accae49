// Real text as domains: windows of what was read, validation apart, and what is said when files are missing.
#include "experiments/real_text.h"

#include <gmock/gmock.h>

#include <array>

#include "tests/experiments/real_text_files.h"
#include "tests/testing.h"

namespace gatewright::experiments {
namespace {

using testing::HasSubstr;

TEST(RealText, GivesWindowsOfEachDomainAndKeepsValidationApart) {
  TemporaryFolder folder;
  write_real_text(folder);
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
  write_real_text(folder);
  folder.write("text/gsm8k_train.jsonl.gz", "{\"question\": \"?\", \"answer\": \"!\"}\n{\"question\": 1}\n");
  EXPECT_THAT(error_of([&] { RealText(folder.path(), events); }), HasSubstr("line 2 has no text 'question'"));
}

}  // namespace
}  // namespace gatewright::experiments
