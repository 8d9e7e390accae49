#include "gatewright/text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/characters.h"

namespace gatewright::jinja {
namespace {

bool is_digit_character(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool in_name(char c) { return begins_name(c) || is_digit_character(c); }
bool is_blank_character(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = find_tag();
      add_text(tag);
      if (tag == std::string_view::npos) break;
      read_tag(tag);
    }
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  /// The next {{, {% or {#.
  size_t find_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string_view::npos; i = source_.find('{', i + 1)) {
      const char next = i + 1 < source_.size() ? source_[i + 1] : ' ';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string_view::npos;
  }

  char char_at(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }

  void add(TokenKind kind, std::string_view text) { tokens_.push_back({kind, text, line_}); }

  void move_to(size_t at) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    at_ = at;
  }

  /// The text from at_ to the tag, or to the end; what the tag says about the space before it is obeyed.
  void add_text(size_t tag) {
    const size_t end = std::min(tag, source_.size());
    std::string_view text = source_.substr(at_, end - at_);
    if (tag != std::string_view::npos) text = before_tag(text, source_[tag + 1] == '{', char_at(tag + 2));
    if (!text.empty()) add(TokenKind::kText, text);
    move_to(end);
  }

  std::string_view before_tag(std::string_view text, bool variable, char sign) const {
    if (sign == '-') return strip(text, Side::kRight);
    if (sign == '+' || variable) return text;
    const size_t line_begin = text.rfind('\n') + 1;  // 0 when there is none
    const bool begins_line = line_begin > 0 || at_ == 0 || source_[at_ - 1] == '\n';
    const bool blank = strip(text.substr(line_begin), Side::kBoth).empty();
    return begins_line && blank ? text.substr(0, line_begin) : text;
  }

  void read_tag(size_t tag) {
    const char kind = source_[tag + 1];
    const char sign = char_at(tag + 2);
    const size_t inside = tag + (sign == '-' || sign == '+' ? 3 : 2);
    if (kind == '#') return skip_comment(inside);
    if (kind == '%' && word_at(inside) == "raw") return read_raw(inside);
    add(kind == '{' ? TokenKind::kOpenVariable : TokenKind::kOpenBlock, source_.substr(tag, 2));
    move_to(inside);
    read_expression_tokens(kind == '{' ? "}}" : "%}",
                           kind == '{' ? TokenKind::kCloseVariable : TokenKind::kCloseBlock);
  }

  void skip_comment(size_t inside) {
    const size_t end = source_.find("#}", inside);
    if (end == std::string_view::npos) fail("line {}: the comment is not closed by #}}", line_);
    move_to(end + 2);
    after_tag(end > inside ? source_[end - 1] : ' ', true);
  }

  /// Behind a tag that was closed after `sign`.
  void after_tag(char sign, bool trims_newline) {
    if (sign == '-')
      skip_spaces();
    else if (trims_newline && sign != '+' && char_at(at_) == '\n')
      move_to(at_ + 1);
  }

  void skip_spaces() { move_to(source_.size() - strip(source_.substr(at_), Side::kLeft).size()); }

  std::string_view word_at(size_t at) const {
    while (is_blank_character(char_at(at))) ++at;
    size_t end = at;
    while (in_name(char_at(end))) ++end;
    return source_.substr(std::min(at, source_.size()), end - at);
  }

  /// Where a tag that only has `word` ends, {behind, sign}, or {0, ' '} when it has more.
  std::pair<size_t, char> end_of_word_tag(size_t inside, std::string_view word) const {
    if (word_at(inside) != word) return {0, ' '};
    size_t at = inside;
    while (is_blank_character(char_at(at))) ++at;
    at += word.size();
    while (is_blank_character(char_at(at))) ++at;
    const char sign = char_at(at) == '-' || char_at(at) == '+' ? char_at(at++) : ' ';
    return source_.substr(at).starts_with("%}") ? std::pair(at + 2, sign) : std::pair(size_t{0}, ' ');
  }

  void read_raw(size_t inside) {
    const auto [behind, sign] = end_of_word_tag(inside, "raw");
    if (!behind) fail("line {}: a raw block begins with {{% raw %}}", line_);
    move_to(behind);
    after_tag(sign, false);
    for (size_t tag = source_.find("{%", at_); tag != std::string_view::npos;
         tag = source_.find("{%", tag + 2)) {
      const char before = char_at(tag + 2);
      const auto [end, end_sign] = end_of_word_tag(tag + (before == '-' || before == '+' ? 3 : 2), "endraw");
      if (!end) continue;
      add_text(tag);
      move_to(end);
      return after_tag(end_sign, true);
    }
    fail("line {}: the raw block is not closed by {{% endraw %}}", line_);
  }

  /// Up to and with the closing mark; brackets hold it off.
  void read_expression_tokens(std::string_view close, TokenKind close_kind) {
    std::vector<char> brackets;
    for (;;) {
      while (is_blank_character(char_at(at_))) move_to(at_ + 1);
      if (at_ >= source_.size()) fail("line {}: the tag is not closed by {}", line_, close);
      if (brackets.empty() && reads_close(close, close_kind)) return;
      const char c = source_[at_];
      if (begins_name(c))
        read_name();
      else if (is_digit_character(c))
        read_number();
      else if (c == '"' || c == '\'')
        read_string(c);
      else
        read_operator(brackets);
    }
  }

  bool reads_close(std::string_view close, TokenKind kind) {
    const char sign = source_[at_];
    const bool signed_close = (sign == '-' || (sign == '+' && kind == TokenKind::kCloseBlock)) &&
                              source_.substr(at_ + 1).starts_with(close);
    if (!signed_close && !source_.substr(at_).starts_with(close)) return false;
    add(kind, close);
    move_to(at_ + close.size() + (signed_close ? 1 : 0));
    after_tag(signed_close ? sign : ' ', kind == TokenKind::kCloseBlock);
    return true;
  }

  void take(TokenKind kind, size_t size) {
    add(kind, source_.substr(at_, size));
    move_to(at_ + size);
  }

  void read_name() {
    size_t end = at_;
    while (in_name(char_at(end))) ++end;
    take(TokenKind::kName, end - at_);
  }

  void read_number() {
    size_t end = at_;
    TokenKind kind = TokenKind::kInteger;
    const auto skip_digits = [&] {
      while (is_digit_character(char_at(end)) ||
             (char_at(end) == '_' && is_digit_character(char_at(end + 1))))
        ++end;
    };
    skip_digits();
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (!after_dot && char_at(end) == '.' && is_digit_character(char_at(end + 1))) {
      kind = TokenKind::kFloat;
      ++end;
      skip_digits();
    }
    if (!after_dot && (char_at(end) == 'e' || char_at(end) == 'E')) {
      const size_t digits = end + (char_at(end + 1) == '+' || char_at(end + 1) == '-' ? 2 : 1);
      if (is_digit_character(char_at(digits))) {
        kind = TokenKind::kFloat;
        end = digits;
        skip_digits();
      }
    }
    take(kind, end - at_);
  }

  void read_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("line {}: the text that begins with {} does not end", line_, quote);
    add(TokenKind::kString, source_.substr(at_ + 1, end - at_ - 1));
    move_to(end + 1);
  }

  void read_operator(std::vector<char>& brackets) {
    constexpr std::array<std::string_view, 6> two = {"//", "**", "==", "!=", ">=", "<="};
    constexpr std::string_view one = "+-/*%~[](){}><=.:|,;";
    const std::string_view next = source_.substr(at_, 2);
    if (std::ranges::find(two, next) != two.end()) return take(TokenKind::kOperator, 2);
    const char c = source_[at_];
    if (one.find(c) == std::string_view::npos)
      fail("line {}: {} has no meaning in an expression", line_,
           Quoted{source_.substr(at_, character_size(source_, at_))});
    if (c == '(' || c == '[' || c == '{') brackets.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty()) fail("line {}: {} closes nothing", line_, c);
      if (brackets.back() != c) fail("line {}: {} stands where {} was expected", line_, c, brackets.back());
      brackets.pop_back();
    }
    take(TokenKind::kOperator, 1);
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::string normalised_source(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::vector<Token> tokenise(std::string_view source) { return Lexer(source).run(); }

}  // namespace gatewright::jinja
