// The verb reproduce: what it lists and what it refuses. (Running an experiment takes minutes.)
#include <gmock/gmock.h>

#include "gatewright/base/json.h"
#include "tests/apps/run_command.h"

namespace gatewright {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST(Reproduce, ListsTheSystemsWithTheirClaims) {
  const CommandResult r = run({"reproduce", "--list", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const Json list = Json::parse(r.out);
  ASSERT_FALSE(list.empty());
  for (const Json& system : list) {
    for (const char* key : {"slug", "title", "source", "claim"})
      EXPECT_FALSE(system.at(key).get<std::string>().empty()) << key;
    EXPECT_GT(system.at("budget_seconds").get<double>(), 0);
  }
  EXPECT_THAT(run({"reproduce", "--list"}).out, HasSubstr("dynamic-moe"));
}

TEST(Reproduce, RefusesWhatItDoesNotKnow) {
  const auto refused = [](const std::vector<std::string>& words, const std::string& says) {
    std::vector<std::string> all = {"reproduce"};
    all.insert(all.end(), words.begin(), words.end());
    const CommandResult r = run(all);
    EXPECT_EQ(r.code, 2) << says;
    EXPECT_THAT(r.err, HasSubstr(says));
    EXPECT_THAT(r.out, IsEmpty());
  };
  refused({"dynamic-mow"}, "did you mean 'dynamic-moe'?");
  refused({}, "--list");
  refused({"dynamic-moe", "--seeds", "0"}, "--seeds");
  refused({"dynamic-moe", "--budget", "medium"}, "full");
  refused({"dynamic-moe", "--all"}, "leave out dynamic-moe");
}

TEST(Reproduce, NeedsRealTextForTheBudgetFull) {
  TemporaryFolder folder;
  const CommandResult missing = run({"reproduce", "dynamic-moe", "--budget", "full", "--data",
                                     folder.path().string(), "--out", folder.path().string()});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("text/gsm8k_test.jsonl.gz"));
}

TEST(Reproduce, FindsOutFirstThatItsFolderIsNone) {
  TemporaryFolder folder;
  const CommandResult r =
      run({"reproduce", "dynamic-moe", "--seeds", "1", "--out", folder.write("file", "text").string()});
  EXPECT_EQ(r.code, 1);
  EXPECT_THAT(r.err, HasSubstr("file"));
}

}  // namespace
}  // namespace gatewright
