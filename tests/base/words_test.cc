#include "gatewright/base/words.h"

#include <gtest/gtest.h>

#include <vector>

namespace gatewright {
namespace {

TEST(Words, LowerCaseIsAboutAsciiLettersOnly) {
  EXPECT_EQ(lower_case("Q4_K \u00c4Z@["), "q4_k \u00c4z@[");
  EXPECT_EQ(lower_case(""), "");
}

TEST(Words, AListOfProblemsIsCutAndSaysSo) {
  const std::vector<std::string> problems = {"a is missing", "b is odd", "c is long"};
  EXPECT_EQ(first_of(problems, 3), "a is missing; b is odd; c is long");
  EXPECT_EQ(first_of(problems, 1), "a is missing; and 2 more");
  EXPECT_EQ(first_of({}, 5), "");
}

}  // namespace
}  // namespace gatewright
