// A matrix as a picture of characters: a shade for each value, and its colour on a terminal.
#pragma once

#include <string>
#include <vector>

namespace gatewright {

struct HeatMap {
  std::vector<std::string> row_names = {};
  std::vector<std::string> column_names = {};
  std::vector<std::vector<double>> values = {};  // [rows][columns]; NaN: nothing there
  /// Values mapped to the ends of the scale; equal: the least and the largest value.
  double least = 0, largest = 0;
};

/// The picture with a line of column names and a legend. `colour`: dark blue over violet to yellow, for
/// terminals with 256 colours; otherwise the shades  . : - = + * # % @  alone.
std::string draw(const HeatMap& map, bool colour, int indent = 0);

}  // namespace gatewright
