#include "gatewright/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "gatewright/report/table.h"

namespace gatewright {
namespace {

constexpr std::string_view kShades = " .:-=+*#%@";
constexpr int kCellWidth = 3;
// Dark blue over violet to yellow on the 6 x 6 x 6 cube of 256 colours.
constexpr std::array<int, 10> kColours = {17, 18, 54, 90, 126, 162, 198, 208, 214, 226};

struct Scale {
  double least, largest;

  size_t step(double value) const {
    if (largest <= least) return 0;
    const double share = std::clamp((value - least) / (largest - least), 0.0, 1.0);
    return std::min(kShades.size() - 1, static_cast<size_t>(share * static_cast<double>(kShades.size())));
  }
};

Scale scale_of(const HeatMap& map) {
  if (map.largest > map.least) return {map.least, map.largest};
  Scale scale{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (const auto& row : map.values) {
    for (double x : row) {
      if (std::isnan(x)) continue;
      scale.least = std::min(scale.least, x);
      scale.largest = std::max(scale.largest, x);
    }
  }
  return scale.least <= scale.largest ? scale : Scale{0, 0};
}

std::string cell(const Scale& scale, double value, bool colour) {
  if (std::isnan(value)) return std::string(kCellWidth, ' ');
  const size_t step = scale.step(value);
  const std::string shade(kCellWidth - (colour ? 0 : 1), kShades[step]);
  if (!colour) return " " + shade;
  return fmt::format("\x1b[48;5;{}m\x1b[38;5;{}m{}\x1b[0m", kColours[step], step > 6 ? 16 : 231, shade);
}

}  // namespace

std::string draw(const HeatMap& map, bool colour, int indent) {
  size_t names = 0;
  for (const std::string& name : map.row_names) names = std::max(names, display_width(name));
  const std::string margin(static_cast<size_t>(indent), ' ');
  std::string text = margin + std::string(names + 1, ' ');
  for (const std::string& name : map.column_names)
    text += fmt::format("{:>{}}", name.substr(0, kCellWidth), kCellWidth);
  text += "\n";
  const Scale scale = scale_of(map);
  for (size_t r = 0; r < map.values.size(); ++r) {
    text += margin + map.row_names[r] + std::string(names + 1 - display_width(map.row_names[r]), ' ');
    for (double value : map.values[r]) text += cell(scale, value, colour);
    text += "\n";
  }
  text += fmt::format("{}{}{:.3g}", margin, std::string(names + 2, ' '), scale.least);
  for (size_t i = 0; i < kShades.size(); ++i)
    text += colour ? fmt::format("\x1b[48;5;{}m \x1b[0m", kColours[i]) : std::string(1, kShades[i]);
  return text + fmt::format("{:.3g}\n", scale.largest);
}

}  // namespace gatewright
