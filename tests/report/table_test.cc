#include "gatewright/report/table.h"

#include <gmock/gmock.h>

#include <sstream>

namespace gatewright {
namespace {

TEST(TextTable, AlignsTextLeftAndNumbersRight) {
  TextTable table({"name", ">steps", "note"});
  table.add({"tiny", "5", "x"});
  table.add({"a longer name", "12000", ""});
  EXPECT_EQ(table.text(),
            "name           steps  note\n"
            "tiny               5  x\n"
            "a longer name  12000\n");
}

TEST(TextTable, IndentsEveryLineAndLeavesNoSpacesAtTheEnd) {
  TextTable table({"a", "b"});
  table.add({"1", "2"});
  table.add({"", ""});
  EXPECT_EQ(table.text(2), "  a  b\n  1  2\n\n");
}

TEST(TextTable, WithoutHeadingsHasNoLineForThem) {
  TextTable table({"", ">"});
  table.add({"x", "1"});
  table.add({"xyz", "100"});
  EXPECT_EQ(table.text(), "x      1\nxyz  100\n");
}

TEST(TextTable, CountsCharactersAndNotBytes) {
  EXPECT_EQ(display_width("caf\xc3\xa9"), 4u);
  EXPECT_EQ(display_width("\xe2\x82\xac"), 1u);
  EXPECT_EQ(display_width(""), 0u);
  TextTable table({"name", ">n"});
  table.add({"caf\xc3\xa9", "1"});
  table.add({"cafes", "2"});
  EXPECT_EQ(table.text(), "name   n\ncaf\xc3\xa9   1\ncafes  2\n");
}

TEST(TextTable, RowsMayBeShortOrLong) {
  TextTable table({"a", "b"});
  table.add({"1"});
  table.add({"1", "2", "3"});
  EXPECT_EQ(table.text(), "a  b\n1\n1  2\n");
}

TEST(Wrapped, BreaksAtSpacesWithinTheWidth) {
  EXPECT_EQ(wrapped("one two three four", 9, 0), "one two\nthree\nfour\n");
  EXPECT_EQ(wrapped("one two three", 11, 2), "  one two\n  three\n");
  EXPECT_EQ(wrapped("first\nsecond line", 80, 1), " first\n second line\n");
  EXPECT_EQ(wrapped("unbreakable", 4, 0), "unbreakable\n") << "a long word stands alone";
  EXPECT_EQ(wrapped("", 10, 0), "");
}

}  // namespace
}  // namespace gatewright
