#include "gatewright/report/terminal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gatewright {
namespace {

TEST(Progress, IsSilentWhenStandardErrorIsNoTerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("tokenising", "MB", 100);
    for (int i = 0; i <= 100; ++i) progress.update(i, "a note");
    progress.clear();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Terminal, AFileIsNoneAndHasNoColour) {
  testing::internal::CaptureStdout();
  const bool terminal = is_terminal(Output::kStandard), colour = use_colour(Output::kStandard);
  const int width = terminal_width(Output::kStandard);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_FALSE(terminal);
  EXPECT_FALSE(colour);
  EXPECT_EQ(width, 100);
}

TEST(ShortCount, HasThreeDigitsAtMost) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(950), "950");
  EXPECT_EQ(short_count(999.4), "999");
  EXPECT_EQ(short_count(999.6), "1.00 k");
  EXPECT_EQ(short_count(1234), "1.23 k");
  EXPECT_EQ(short_count(9994), "9.99 k");
  EXPECT_EQ(short_count(9996), "10.0 k");
  EXPECT_EQ(short_count(99960), "100 k");
  EXPECT_EQ(short_count(999'400), "999 k");
  EXPECT_EQ(short_count(999'600), "1.00 M");
  EXPECT_EQ(short_count(6.92e9), "6.92 G");
  EXPECT_EQ(short_count(-1234), "-1.23 k");
}

TEST(ShortDuration, IsReadByPeople) {
  EXPECT_EQ(short_duration(0), "0 s");
  EXPECT_EQ(short_duration(48.4), "48 s");
  EXPECT_EQ(short_duration(59.6), "1 min 00 s");
  EXPECT_EQ(short_duration(125), "2 min 05 s");
  EXPECT_EQ(short_duration(3599.7), "1 h 00 min");
  EXPECT_EQ(short_duration(7380), "2 h 03 min");
  EXPECT_EQ(short_duration(-1), "?");
  EXPECT_EQ(short_duration(std::nan("")), "?");
  EXPECT_EQ(short_duration(std::numeric_limits<double>::infinity()), "?");
}

TEST(ShortSize, HasThreeDigitsAndAUnit) {
  EXPECT_EQ(short_size(3), "3 bytes");
  EXPECT_EQ(short_size(999), "999 bytes");
  EXPECT_EQ(short_size(3400), "3.40 kB");
  EXPECT_EQ(short_size(16.3e6), "16.3 MB");
  EXPECT_EQ(short_size(2e9), "2.00 GB");
}

}  // namespace
}  // namespace gatewright
