// The tokens of a template as its parsers read them.
#pragma once

#include <vector>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/lexer.h"

namespace gatewright::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }

  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_operator(std::string_view text) const { return at(TokenKind::kOperator) && current().text == text; }
  bool at_name(std::string_view text) const { return at(TokenKind::kName) && current().text == text; }

  Token next() {
    const Token token = current();
    if (token.kind != TokenKind::kEnd) ++at_;
    return token;
  }
  bool skip_operator(std::string_view text) {
    if (!at_operator(text)) return false;
    ++at_;
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!at_name(text)) return false;
    ++at_;
    return true;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail_unexpected(text);
  }
  Token expect(TokenKind kind, std::string_view description) {
    if (!at(kind)) fail_unexpected(description);
    return next();
  }
  [[noreturn]] void fail_unexpected(std::string_view wanted) const {
    if (at(TokenKind::kEnd)) fail("line {}: the template ends where {} was expected", line(), wanted);
    fail("line {}: {} was expected, not {}", line(), wanted, Quoted{current().text});
  }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
};

/// Guards the parsers' recursion.
class ParserDepth {
 public:
  ParserDepth(int& depth, int line) : depth_(depth) {
    constexpr int kDeepest = 100;
    if (++depth_ > kDeepest) {
      --depth_;
      fail("line {}: it is nested more than {} deep", line, kDeepest);
    }
  }
  ~ParserDepth() { --depth_; }
  ParserDepth(const ParserDepth&) = delete;
  ParserDepth& operator=(const ParserDepth&) = delete;

 private:
  int& depth_;
};

}  // namespace gatewright::jinja
