#include "gatewright/report/table.h"

#include <algorithm>
#include <sstream>

namespace gatewright {

size_t display_width(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

TextTable::TextTable(std::vector<std::string> headings) : headings_(std::move(headings)) {
  for (std::string& h : headings_) {
    right_.push_back(h.starts_with('>'));
    if (right_.back()) h.erase(0, 1);
  }
}

void TextTable::add(std::vector<std::string> cells) {
  cells.resize(headings_.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text(int indent) const {
  std::vector<size_t> widths;
  for (const std::string& h : headings_) widths.push_back(display_width(h));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string result;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string line(static_cast<size_t>(indent), ' ');
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string space(widths[i] - display_width(cells[i]), ' ');
      line += (i ? "  " : "") + (right_[i] ? space + cells[i] : cells[i] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    result += line + "\n";
  };
  if (std::ranges::any_of(headings_, [](const std::string& h) { return !h.empty(); })) add_line(headings_);
  for (const auto& row : rows_) add_line(row);
  return result;
}

std::string wrapped(const std::string& text, size_t width, size_t indent) {
  std::istringstream lines(text);
  std::string result, line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string word, current(indent, ' ');
    while (words >> word) {
      if (display_width(current) > indent && display_width(current) + 1 + display_width(word) > width) {
        result += current + "\n";
        current.assign(indent, ' ');
      }
      current += (display_width(current) > indent ? " " : "") + word;
    }
    result += current + "\n";
  }
  return result;
}

}  // namespace gatewright
