#include "gatewright/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

constexpr size_t kLongestPattern = size_t{1} << 16;
constexpr uint32_t kMostMatchSteps = 10'000'000;
constexpr size_t kFirstStack = size_t{1} << 15, kLargestStack = size_t{1} << 23;  // bytes

PCRE2_SPTR units(const char* text) { return reinterpret_cast<PCRE2_SPTR>(text); }

/// What one thread needs to match, for all patterns.
struct Workspace {
  Workspace()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kFirstStack, kLargestStack, nullptr)) {
    if (!data || !context || !stack) throw std::bad_alloc();
    pcre2_set_match_limit(context, kMostMatchSteps);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Workspace() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

/// White space is the property White_Space, as Oniguruma has it; PCRE2's own \s also takes U+180E.
constexpr std::string_view kSpace =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

struct CategoryRange {
  uint32_t first, last;
  std::string_view category;
};

#include "gatewright/text/unicode_16_additions.inc"

/// What Unicode 16 has more than Unicode 14 in a general category (P, Lu, ...), as ranges for a class: PCRE2
/// may know any version from 14 on.
std::string additions_to(std::string_view category) {
  std::string ranges;
  for (const auto& [first, last, its] : kSinceUnicode14)
    if (!category.empty() && its.starts_with(category))
      ranges += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", first, last);
  return ranges;
}

/// \p{P}, \pP, \P{P} or \p{^P} with the characters of Unicode 16; inside of brackets the negated ones stay.
/// `written` is the property, from its backslash on.
std::string with_additions(std::string_view written, bool in_brackets) {
  std::string_view category = written.substr(2);
  if (category.starts_with('{')) category = category.substr(1, category.size() - 2);
  bool negated = written[1] == 'P';
  if (category.starts_with('^')) {
    category.remove_prefix(1);
    negated = !negated;
  }
  const std::string additions = additions_to(category);
  if (additions.empty() || (in_brackets && negated)) return std::string(written);
  if (in_brackets) return fmt::format("{}{}", written, additions);
  return fmt::format("[{}\\p{{{}}}{}]", negated ? "^" : "", category, additions);
}

/// How long the property is that the pattern begins with; 0 when it does not end.
size_t property_size(std::string_view pattern) {
  if (pattern.size() < 3) return 0;
  if (pattern[2] != '{') return 3;
  const size_t end = pattern.find('}');
  return end == std::string_view::npos ? 0 : end + 1;
}

/// The pattern with what depends on the version of Unicode, \s, \S and general categories, spelled out where
/// that can be: inside of brackets \S stays.
std::string with_our_unicode(std::string_view pattern, std::string_view what) {
  std::string out;
  int depth = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      require(next != 'h' && next != 'H', "{}: \\{} in the pattern {} is not supported", what, next,
              Quoted{pattern});
      const size_t property = next == 'p' || next == 'P' ? property_size(pattern.substr(i - 1)) : 0;
      if (property) {
        out += with_additions(pattern.substr(i - 1, property), depth > 0);
        i += property - 2;
      } else if (next == 's')
        out.append(depth ? "" : "[").append(kSpace).append(depth ? "" : "]");
      else if (next == 'S' && depth == 0)
        out.append("[^").append(kSpace).append("]");
      else
        out.append({c, next});
      continue;
    }
    require(depth == 0 || !pattern.substr(i).starts_with("&&"),
            "{}: an intersection of classes (&&) in the pattern {} is not supported", what, Quoted{pattern});
    if (depth > 0 && c == '[' && !pattern.substr(i).starts_with("[:"))
      fail("{}: a class inside a class in the pattern {} is not supported", what, Quoted{pattern});
    if (c == '[' && depth == 0) {
      depth = 1;
      out += c;
      // A bracket that comes first is a character of the class.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out.append("\\").append({pattern[++i]});
      continue;
    }
    if (depth > 0 && pattern.substr(i).starts_with("[:")) {
      const size_t end = pattern.find(":]", i);
      require(end != std::string_view::npos, "{}: the pattern {} has a class without an end", what,
              Quoted{pattern});
      out.append(pattern.substr(i, end + 2 - i));
      i = end + 1;
      continue;
    }
    if (c == ']') depth = 0;
    out += c;
  }
  return out;
}

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* given) : code(given) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* code;
};

Regex::Regex(std::string_view pattern, std::string_view what) : pattern_(pattern) {
  require(pattern.size() <= kLongestPattern, "{}: a pattern of {} bytes is too long; the limit is {}", what,
          pattern.size(), kLongestPattern);
  const std::string rewritten = with_our_unicode(pattern, what);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's syntax: ^ and $ hold at every line.
  code_ = std::make_shared<Code>(pcre2_compile(
      units(rewritten.data()), rewritten.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_MATCH_INVALID_UTF, &error,
      &offset, nullptr));
  if (!code_->code) {
    char message[256] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail("{}: the pattern {} does not compile: {}", what, Quoted{pattern}, message);
  }
  // Without it (a system that allows no code to be made) the interpreter does the same, slower.
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}

std::optional<Regex::Match> Regex::find(std::string_view text, size_t from) const {
  thread_local Workspace workspace;
  const int found =
      pcre2_match(code_->code, units(text.data()), text.size(), from, 0, workspace.data, workspace.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    char message[256] = {};
    pcre2_get_error_message(found, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail("cannot cut the text by the pattern {}: {}", Quoted{pattern_}, message);
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(workspace.data);
  return Match{range[0], std::max(range[0], range[1])};
}

}  // namespace gatewright
