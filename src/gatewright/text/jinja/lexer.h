// A template cut into tokens, with the white space around tags removed as Transformers has it done: the first
// newline after a block tag or comment, spaces before one that begins its line, and more where a tag says
// `-`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gatewright::jinja {

enum class TokenKind : uint8_t {
  kText,           // outside tags
  kOpenVariable,   // {{
  kCloseVariable,  // }}
  kOpenBlock,      // {%
  kCloseBlock,     // %}
  kName,
  kInteger,
  kFloat,
  kString,    // between its quotes, escapes not yet resolved
  kOperator,  // one of + - / // * % ** ~ [ ] ( ) { } == != > >= < <= = . : | , ;
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string_view text;  // points into the source
  int line;
};

/// Line ends become \n, and one at the end is removed: the form in which a source is cut.
std::string normalised_source(std::string_view source);

/// The last token is kEnd. Errors name the line.
std::vector<Token> tokenise(std::string_view source);

}  // namespace gatewright::jinja
