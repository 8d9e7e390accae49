// Bars with intervals as a picture (SVG).
#pragma once

#include <string>
#include <vector>

namespace gatewright {

struct Bar {
  std::string name;
  double value = 0, low = 0, high = 0;  // low and high: the ends of an interval around the value
};

/// An SVG picture: a bar for each value from zero on, a line from low to high across its end.
std::string bar_chart_svg(const std::string& title, const std::vector<Bar>& bars);
}  // namespace gatewright
