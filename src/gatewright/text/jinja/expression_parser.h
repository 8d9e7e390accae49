// The expressions of a template.
#pragma once

#include "gatewright/text/jinja/syntax.h"
#include "gatewright/text/jinja/token_stream.h"

namespace gatewright::jinja {

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, Template& result, int& depth)
      : tokens_(tokens), result_(result), depth_(depth) {}

  /// With `x if c else y`.
  Operand expression();
  Operand expression_without_condition() { return either(); }
  /// Expressions with commas between them are a tuple.
  Operand tuple(bool with_condition = true);
  /// `name(arguments) | name ...` from the name on, each applied to the text of a block.
  std::vector<Operand> block_filters();

 private:
  Operand make(int line, decltype(Expression::node) node);
  Operand either();
  Operand both();
  Operand negation();
  Operand comparison();
  Operand sum();
  Operand concatenation();
  Operand product();
  Operand power();
  Operand unary(bool with_filters = true);
  Operand primary();
  Operand parenthesised();
  Operand list_literal();
  Operand mapping_literal();
  Operand number();
  Operand text_literal();
  Operand with_postfix(Operand operand);
  Operand with_filters_and_tests(Operand operand);
  Operand attribute(Operand object);
  Operand subscript(Operand object);
  Operand filter(Operand operand);
  Operand test(Operand operand);
  ArgumentList arguments();
  bool ends_tuple() const;

  TokenStream& tokens_;
  Template& result_;
  int& depth_;
};

}  // namespace gatewright::jinja
