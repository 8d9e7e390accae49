// Aligned columns of text.
#pragma once

#include <string>
#include <vector>

namespace gatewright {

class TextTable {
 public:
  /// Headings; one beginning with '>' marks a column of numbers, set flush right (the mark is not printed).
  explicit TextTable(std::vector<std::string> headings);
  void add(std::vector<std::string> cells);
  /// Lines ending in '\n', columns two spaces apart; every line begins with `indent` spaces.
  std::string text(int indent = 0) const;

 private:
  std::vector<std::string> headings_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

/// Characters that `text` takes on a terminal (UTF-8; every character counts one).
size_t display_width(const std::string& text);
/// Lines of at most `width` characters, broken at spaces, each begun with `indent` spaces.
std::string wrapped(const std::string& text, size_t width, size_t indent);

}  // namespace gatewright
