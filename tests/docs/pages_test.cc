// Pages can't rot silently: what they name is there. Files in backticks and links exist, and every function
// of docs/architecture.md stands in the file of its row.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "gatewright/base/file.h"

namespace gatewright {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = GATEWRIGHT_SOURCE_DIR;

/// Our own pages: docs/*.md, the README of every room, and the one at the top.
std::vector<fs::path> pages() {
  std::vector<fs::path> result;
  for (const char* folder : {"docs", "src", "tests", "bench", "examples", "apps", "recipes"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.path().extension() == ".md") result.push_back(entry.path());
    }
  }
  if (fs::exists(kRoot / "README.md")) result.push_back(kRoot / "README.md");
  std::ranges::sort(result);
  return result;
}

std::vector<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::vector<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it)
    found.push_back((*it)[1]);
  return found;
}

/// `words` between backticks, without the fenced blocks.
std::vector<std::string> code_words(std::string text) {
  static const std::regex fence("```[^`]*```");
  text = std::regex_replace(text, fence, "");
  return matches(text, std::regex("`([^`\n]+)`"));
}

bool names_a_file(const std::string& word) {
  static const std::regex file("[a-z0-9_./-]+\\.(h|cc|cu|cuh|md|toml|inc|py|txt|cmake|in)");
  static const std::regex folder("(src|apps|tests|examples|docs|recipes|bench|tools)/[a-z0-9_./-]*");
  return std::regex_match(word, file) || std::regex_match(word, folder);
}

bool has_file_below(const fs::path& folder, const std::string& name) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().filename() == name) return true;
  }
  return false;
}

/// Paths are written from the top, from src/, from src/gatewright/, or from the page itself. A name alone is
/// a file somewhere below a README, or anywhere in the library for the other pages.
bool exists(const std::string& word, const fs::path& page) {
  for (const fs::path& base : {kRoot, kRoot / "src", kRoot / "src/gatewright", page.parent_path()}) {
    if (fs::exists(base / word)) return true;
  }
  const bool of_a_room = page.filename() == "README.md";
  return word.find('/') == std::string::npos &&
         has_file_below(of_a_room ? page.parent_path() : kRoot / "src", word);
}

TEST(Pages, NameFilesThatExist) {
  size_t files = 0;
  for (const fs::path& page : pages()) {
    for (const std::string& word : code_words(read_file(page))) {
      if (!names_a_file(word)) continue;
      ++files;
      EXPECT_TRUE(exists(word, page)) << page << " names " << word;
    }
  }
  EXPECT_GT(files, 100U);
}

TEST(Pages, LinkToPagesThatExist) {
  size_t links = 0;
  for (const fs::path& page : pages()) {
    for (const std::string& target : matches(read_file(page), std::regex("\\]\\(([^)#: ]+)(#[^)]*)?\\)"))) {
      ++links;
      EXPECT_TRUE(fs::exists(page.parent_path() / target)) << page << " links to " << target;
    }
  }
  EXPECT_GT(links, 10U);
}

std::vector<std::string> lines_of(const std::string& text) { return matches(text, std::regex("([^\n]+)\n")); }

/// "Decoder::forward" is in a text that has the class and a function of that name.
void expect_function(const std::string& function, const std::string& source, const std::string& file) {
  const size_t colons = function.rfind("::");
  const std::string name = colons == std::string::npos ? function : function.substr(colons + 2);
  const std::regex call("(^|[^A-Za-z0-9_])" + name + "\\(");
  EXPECT_TRUE(std::regex_search(source, call)) << file << " has no function " << name;
  if (colons == std::string::npos) return;
  EXPECT_NE(source.find(function.substr(0, colons)), std::string::npos)
      << file << " does not have " << function;
}

// A row names its functions first and then one file under src/ or apps/.
TEST(Architecture, NamesFunctionsThatAreInTheirFiles) {
  static const std::regex function("[A-Za-z][A-Za-z0-9_]*(::[a-z_0-9]+)?");
  size_t functions = 0;
  for (const std::string& line : lines_of(read_file(kRoot / "docs/architecture.md"))) {
    if (!line.starts_with("|")) continue;
    const std::vector<std::string> words = code_words(line);
    const auto file = std::ranges::find_if(words, names_a_file);
    if (file == words.end() || file == words.begin() || !fs::is_regular_file(kRoot / *file)) continue;
    const std::string source = read_file(kRoot / *file);
    for (auto word = words.begin(); word != file; ++word) {
      if (!std::regex_match(*word, function) || *word == "Scorer" || *word == "Selector" ||
          *word == "ExpertBank")
        continue;
      ++functions;
      expect_function(*word, source, *file);
    }
  }
  EXPECT_GT(functions, 60U);
}

TEST(Rooms, HaveAReadme) {
  for (const auto& entry : fs::directory_iterator(kRoot / "src/gatewright")) {
    if (entry.is_directory()) {
      EXPECT_TRUE(fs::exists(entry.path() / "README.md")) << entry.path();
    }
  }
}

}  // namespace
}  // namespace gatewright
