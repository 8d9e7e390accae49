#include "gatewright/base/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

namespace gatewright {
namespace {

std::string folded(std::string_view word) {
  std::string result;
  for (char c : word) {
    if (c == '-' || c == '_') continue;
    result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

}  // namespace

int edit_distance(std::string_view a_in, std::string_view b_in) {
  // Bounded: words from outside may be long, and nothing past this is near.
  constexpr size_t kLongest = 64;
  const std::string a = folded(a_in.substr(0, kLongest)), b = folded(b_in.substr(0, kLongest));
  std::vector<std::vector<int>> d(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

std::string nearest(std::string_view wanted, std::span<const std::string> names) {
  const auto it = std::ranges::min_element(
      names, {}, [&](const std::string& name) { return edit_distance(wanted, name); });
  return it == names.end() ? std::string() : *it;
}

std::string did_you_mean(std::string_view wanted, std::span<const std::string> names) {
  if (names.empty()) return "";
  const std::string best = nearest(wanted, names);
  const int allowed = std::max<int>(2, static_cast<int>(std::max(wanted.size(), best.size())) / 2);
  if (edit_distance(wanted, best) <= allowed) return fmt::format(", did you mean '{}'?", best);
  constexpr size_t kMostListed = 24;
  return names.size() > kMostListed ? "" : fmt::format(" (there is: {})", fmt::join(names, ", "));
}

}  // namespace gatewright
