#include "gatewright/report/bar_chart.h"

#include <gmock/gmock.h>

#include <cmath>

namespace gatewright {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(BarChart, DrawsBarsInProportionToTheLongest) {
  const std::string svg = bar_chart_svg("loss", {{"a", 1, 1, 1}, {"b", 2, 1, 4}});
  EXPECT_THAT(svg, HasSubstr("width=\"105.0\""));  // a quarter of 420: the scale ends with the interval
  EXPECT_THAT(svg, HasSubstr("width=\"210.0\""));
  EXPECT_THAT(svg, HasSubstr("x2=\"640.0\""));
}

TEST(BarChart, KeepsNamesFromBeingMarkup) {
  const std::string svg = bar_chart_svg("a < b", {{"<script>&", 1, 1, 1}});
  EXPECT_THAT(svg, HasSubstr("&lt;script&gt;&amp;"));
  EXPECT_THAT(svg, Not(HasSubstr("<script>")));
}

TEST(BarChart, SurvivesNothingAndNoNumbers) {
  EXPECT_THAT(bar_chart_svg("empty", {}), HasSubstr("</svg>"));
  EXPECT_THAT(bar_chart_svg("nan", {{"a", std::nan(""), std::nan(""), INFINITY}}),
              HasSubstr("width=\"0.0\""));
  EXPECT_THAT(bar_chart_svg("zero", {{"a", 0, 0, 0}}), HasSubstr("width=\"0.0\""));
}

}  // namespace
}  // namespace gatewright
