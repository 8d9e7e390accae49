#include <gtest/gtest.h>

#include "gatewright/report/terminal.h"

namespace gatewright {
namespace {

TEST(ShortSize, HasThreeDigitsAndAUnit) {
  EXPECT_EQ(short_size(3), "3 bytes");
  EXPECT_EQ(short_size(999), "999 bytes");
  EXPECT_EQ(short_size(3400), "3.40 kB");
  EXPECT_EQ(short_size(16.3e6), "16.3 MB");
  EXPECT_EQ(short_size(2e9), "2.00 GB");
}

}  // namespace
}  // namespace gatewright
