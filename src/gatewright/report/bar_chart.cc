#include "gatewright/report/bar_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace gatewright {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// The end of the scale that all bars share; 1 when there is nothing to show.
double scale_end(const std::vector<Bar>& bars) {
  double end = 0;
  for (const Bar& b : bars) end = std::max({end, b.value, b.high});
  return end > 0 && std::isfinite(end) ? end : 1;
}

double share(double value, double end) {
  return std::isfinite(value) ? std::clamp(value / end, 0.0, 1.0) : 0;
}

}  // namespace

std::string bar_chart_svg(const std::string& title, const std::vector<Bar>& bars) {
  constexpr double kRow = 28, kTop = 44, kLeft = 220, kBar = 420, kRight = 110;
  const double height = kTop + kRow * static_cast<double>(bars.size()) + 12, end = scale_end(bars);
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"12\" y=\"24\" font-weight=\"bold\">{2}</text>\n",
      kLeft + kBar + kRight, height, escaped(title));
  double y = kTop;
  for (const Bar& b : bars) {
    const double middle = y + kRow / 2;
    svg += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n"
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"#4878a8\"/>\n"
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"black\"/>\n"
        "<text x=\"{:.1f}\" y=\"{:.1f}\">{:.4g}</text>\n",
        kLeft - 8, middle + 4, escaped(b.name), kLeft, y + 5, kBar * share(b.value, end), kRow - 10,
        kLeft + kBar * share(b.low, end), middle, kLeft + kBar * share(b.high, end), middle, kLeft + kBar + 8,
        middle + 4, b.value);
    y += kRow;
  }
  return svg + "</svg>\n";
}

}  // namespace gatewright
