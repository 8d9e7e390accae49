#include "gatewright/report/heat_map.h"

#include <gmock/gmock.h>

#include <limits>
#include <sstream>

namespace gatewright {
namespace {

using testing::HasSubstr;
using testing::Not;

const double kNothing = std::numeric_limits<double>::quiet_NaN();

TEST(HeatMap, ShadesRunFromTheLeastToTheLargestValue) {
  const HeatMap map{.row_names = {"books", "code"},
                    .column_names = {"0", "1", "2"},
                    .values = {{0, 0.5, 1}, {1, 0, kNothing}}};
  EXPECT_EQ(draw(map, /*colour=*/false),
            "        0  1  2\n"
            "books     ++ @@\n"
            "code   @@      \n"
            "       0 .:-=+*#%@1\n");
}

TEST(HeatMap, EveryTenthOfTheScaleHasItsShade) {
  HeatMap map{.row_names = {"r"}, .values = {{}}, .least = 0, .largest = 10};
  for (int i = 0; i < 10; ++i) map.values[0].push_back(i + 0.5);
  EXPECT_THAT(draw(map, false), HasSubstr("r     .. :: -- == ++ ** ## %% @@\n"));
  map.values = {{-5, 15}};
  EXPECT_THAT(draw(map, false), HasSubstr("r     @@\n")) << "values beyond the scale take its ends";
}

TEST(HeatMap, HasNoEscapesWithoutColourAndBalancedOnesWithIt) {
  const HeatMap map{.row_names = {"a"}, .column_names = {"0", "1"}, .values = {{0.25, 0.75}}};
  EXPECT_THAT(draw(map, false), Not(HasSubstr("\x1b")));
  const std::string coloured = draw(map, true);
  EXPECT_THAT(coloured, HasSubstr("\x1b[48;5;17m"));
  EXPECT_THAT(coloured, HasSubstr("\x1b[48;5;226m"));
  // On every line each colour is switched off again.
  std::istringstream lines(coloured);
  for (std::string line; std::getline(lines, line);) {
    const size_t last = line.rfind('\x1b');
    if (last == std::string::npos) continue;
    EXPECT_EQ(line.substr(last, 4), "\x1b[0m") << line;
  }
}

TEST(HeatMap, ColumnsStandUnderTheirNames) {
  HeatMap map{.row_names = {"x"}, .values = {{}}};
  for (int i = 0; i < 12; ++i) {
    map.column_names.push_back(std::to_string(i));
    map.values[0].push_back(i == 11 ? 1 : 0);
  }
  std::istringstream lines(draw(map, false, 3));
  std::string names, cells;
  std::getline(lines, names);
  std::getline(lines, cells);
  EXPECT_EQ(names.find("11"), cells.find("@@"));
  EXPECT_TRUE(names.starts_with("   "));
}

TEST(HeatMap, OfEqualValuesOrNothingIsStillAPicture) {
  const HeatMap equal{.row_names = {"a"}, .column_names = {"0"}, .values = {{0.5}}};
  EXPECT_THAT(draw(equal, false), HasSubstr("0.5 .:-=+*#%@0.5"));
  const HeatMap nothing{.row_names = {"a"}, .column_names = {"0"}, .values = {{kNothing}}};
  EXPECT_THAT(draw(nothing, false), HasSubstr("0 .:-=+*#%@0\n"));
  EXPECT_THAT(draw({}, false), HasSubstr("0 .:-=+*#%@0\n"));
}

}  // namespace
}  // namespace gatewright
