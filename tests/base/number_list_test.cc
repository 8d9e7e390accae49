#include "gatewright/base/number_list.h"

#include <gmock/gmock.h>

namespace gatewright {
namespace {

using testing::ElementsAre;
using testing::Eq;
using testing::Optional;

TEST(NumberList, TakesNumbersAndRangesInTheirOrder) {
  EXPECT_THAT(parse_number_list("0,3,8-11"), Optional(ElementsAre(0, 3, 8, 9, 10, 11)));
  EXPECT_THAT(parse_number_list("5,5,2-2"), Optional(ElementsAre(5, 5, 2)));
  EXPECT_THAT(parse_number_list("7"), Optional(ElementsAre(7)));
}

TEST(NumberList, IsNothingWhenAPartIsNoNumber) {
  for (const char* wrong : {"", ",", "1,", ",1", "1,,2", "x", "1 ", " 1", "+1", "-1", "1-", "-", "3-2",
                            "1-2-3", "0x1", "9223372036854775808", "0-9223372036854775807"})
    EXPECT_EQ(parse_number_list(wrong), std::nullopt) << wrong;
}

TEST(NumberList, HasABound) {
  EXPECT_THAT(parse_number_list("1-4", 4), Optional(testing::SizeIs(4)));
  EXPECT_EQ(parse_number_list("1-4", 3), std::nullopt);
  EXPECT_EQ(parse_number_list("1,2,3,4", 3), std::nullopt);
}

TEST(NumberRange, IsOneNumberOrTwo) {
  EXPECT_THAT(parse_number("9223372036854775807"), Optional(Eq(INT64_MAX)));
  EXPECT_EQ(parse_number(""), std::nullopt);
  EXPECT_EQ(parse_number("-0"), std::nullopt);
  const auto range = parse_number_range("2-30");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->first, 2);
  EXPECT_EQ(range->last, 30);
  EXPECT_EQ(parse_number_range("30-2"), std::nullopt);
}

}  // namespace
}  // namespace gatewright
