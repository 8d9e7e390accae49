#include "gatewright/text/jinja/expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "gatewright/text/utf8.h"

namespace gatewright::jinja {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// \xhh, \uhhhh, \Uhhhhhhhh from behind the letter on.
uint32_t hex_escape(std::string_view text, size_t digits, int line) {
  uint32_t code = 0;
  for (size_t i = 0; i < digits; ++i) {
    const int digit = i < text.size() ? hex_digit(text[i]) : -1;
    if (digit < 0)
      fail("line {}: the escape in the text {} needs {} hexadecimal digits", line, Quoted{text}, digits);
    code = code * 16 + static_cast<uint32_t>(digit);
  }
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
    fail("line {}: an escape names no character", line);
  return code;
}

/// Python's escapes; a backslash before anything else stays.
std::string unescaped(std::string_view text, int line) {
  constexpr std::string_view letters = "\\'\"abfnrtv", meanings = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char letter = text[++i];
    if (const size_t known = letters.find(letter); known != std::string_view::npos) {
      out += meanings[known];
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      const size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
      append_utf8(hex_escape(text.substr(i + 1), digits, line), out);
      i += digits;
    } else if (letter >= '0' && letter <= '7') {
      uint32_t code = 0;
      size_t end = i;
      while (end < text.size() && end < i + 3 && text[end] >= '0' && text[end] <= '7')
        code = code * 8 + static_cast<uint32_t>(text[end++] - '0');
      append_utf8(code, out);
      i = end - 1;
    } else if (letter != '\n') {
      out += '\\';
      out += letter;
    }
  }
  return out;
}

std::string without_underscores(std::string_view digits) {
  std::string text(digits);
  std::erase(text, '_');
  return text;
}

}  // namespace

Operand ExpressionParser::make(int line, decltype(Expression::node) node) {
  return &result_.expressions.emplace_back(Expression{line, std::move(node)});
}

Operand ExpressionParser::expression() {
  const ParserDepth deeper(depth_, tokens_.line());
  const int line = tokens_.line();
  Operand result = either();
  while (tokens_.skip_name("if")) {
    const Operand condition = either();
    const Operand otherwise = tokens_.skip_name("else") ? expression() : nullptr;
    result = make(line, Conditional{condition, result, otherwise});
  }
  return result;
}

bool ExpressionParser::ends_tuple() const {
  return tokens_.at(TokenKind::kCloseVariable) || tokens_.at(TokenKind::kCloseBlock) ||
         tokens_.at_operator(")") || tokens_.at_name("recursive");
}

Operand ExpressionParser::tuple(bool with_condition) {
  const int line = tokens_.line();
  std::vector<Operand> items;
  bool is_tuple = false;
  while (!ends_tuple()) {
    items.push_back(with_condition ? expression() : either());
    if (!tokens_.skip_operator(",")) break;
    is_tuple = true;
  }
  if (items.empty()) tokens_.fail_unexpected("an expression");
  return is_tuple ? make(line, ListLiteral{std::move(items), true}) : items[0];
}

Operand ExpressionParser::either() {
  const ParserDepth deeper(depth_, tokens_.line());
  Operand left = both();
  for (int line = tokens_.line(); tokens_.skip_name("or"); line = tokens_.line())
    left = make(line, Binary{BinaryOperator::kOr, left, both()});
  return left;
}

Operand ExpressionParser::both() {
  Operand left = negation();
  for (int line = tokens_.line(); tokens_.skip_name("and"); line = tokens_.line())
    left = make(line, Binary{BinaryOperator::kAnd, left, negation()});
  return left;
}

Operand ExpressionParser::negation() {
  const int line = tokens_.line();
  if (!tokens_.skip_name("not")) return comparison();
  const ParserDepth deeper(depth_, line);
  return make(line, Unary{UnaryOperator::kNot, negation()});
}

Operand ExpressionParser::comparison() {
  constexpr std::array<std::pair<std::string_view, Comparator>, 6> operators = {
      {{"==", Comparator::kEqual},
       {"!=", Comparator::kNotEqual},
       {"<", Comparator::kLess},
       {"<=", Comparator::kLessEqual},
       {">", Comparator::kGreater},
       {">=", Comparator::kGreaterEqual}}};
  const int line = tokens_.line();
  const Operand first = sum();
  std::vector<std::pair<Comparator, Operand>> rest;
  for (;;) {
    const auto known =
        std::ranges::find_if(operators, [&](const auto& o) { return tokens_.at_operator(o.first); });
    if (known != operators.end()) {
      tokens_.next();
      rest.emplace_back(known->second, sum());
    } else if (tokens_.skip_name("in")) {
      rest.emplace_back(Comparator::kIn, sum());
    } else if (tokens_.at_name("not") && tokens_.look().text == "in") {
      tokens_.next(), tokens_.next();
      rest.emplace_back(Comparator::kNotIn, sum());
    } else {
      break;
    }
  }
  return rest.empty() ? first : make(line, Comparison{first, std::move(rest)});
}

Operand ExpressionParser::sum() {
  Operand left = concatenation();
  while (tokens_.at_operator("+") || tokens_.at_operator("-")) {
    const Token sign = tokens_.next();
    left = make(sign.line, Binary{sign.text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSubtract, left,
                                  concatenation()});
  }
  return left;
}

Operand ExpressionParser::concatenation() {
  Operand left = product();
  for (int line = tokens_.line(); tokens_.skip_operator("~"); line = tokens_.line())
    left = make(line, Binary{BinaryOperator::kConcatenate, left, product()});
  return left;
}

Operand ExpressionParser::product() {
  Operand left = power();
  for (;;) {
    const std::string_view sign = tokens_.at(TokenKind::kOperator) ? tokens_.current().text : "";
    if (sign != "*" && sign != "/" && sign != "//" && sign != "%") return left;
    const int line = tokens_.next().line;
    const BinaryOperator operation = sign == "*"    ? BinaryOperator::kMultiply
                                     : sign == "/"  ? BinaryOperator::kDivide
                                     : sign == "//" ? BinaryOperator::kFloorDivide
                                                    : BinaryOperator::kModulo;
    left = make(line, Binary{operation, left, power()});
  }
}

Operand ExpressionParser::power() {
  Operand left = unary();
  for (int line = tokens_.line(); tokens_.skip_operator("**"); line = tokens_.line())
    left = make(line, Binary{BinaryOperator::kPower, left, unary()});
  return left;
}

Operand ExpressionParser::unary(bool with_filters) {
  const ParserDepth deeper(depth_, tokens_.line());
  const int line = tokens_.line();
  Operand operand;
  if (tokens_.skip_operator("-"))
    operand = make(line, Unary{UnaryOperator::kMinus, unary(false)});
  else if (tokens_.skip_operator("+"))
    operand = make(line, Unary{UnaryOperator::kPlus, unary(false)});
  else
    operand = primary();
  operand = with_postfix(operand);
  return with_filters ? with_filters_and_tests(operand) : operand;
}

Operand ExpressionParser::primary() {
  const Token token = tokens_.current();
  if (token.kind == TokenKind::kString) return text_literal();
  if (token.kind == TokenKind::kInteger || token.kind == TokenKind::kFloat) return number();
  if (tokens_.at_operator("(")) return parenthesised();
  if (tokens_.at_operator("[")) return list_literal();
  if (tokens_.at_operator("{")) return mapping_literal();
  const std::string_view name = tokens_.expect(TokenKind::kName, "an expression").text;
  if (name == "true" || name == "True") return make(token.line, Literal{true});
  if (name == "false" || name == "False") return make(token.line, Literal{false});
  if (name == "none" || name == "None") return make(token.line, Literal{None{}});
  return make(token.line, Name{name});
}

Operand ExpressionParser::number() {
  const Token token = tokens_.next();
  const std::string digits = without_underscores(token.text);
  const char* end = digits.data() + digits.size();
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    std::from_chars(digits.data(), end, value);
    return make(token.line, Literal{value});
  }
  int64_t value = 0;
  if (std::from_chars(digits.data(), end, value).ec != std::errc())
    fail("line {}: the number {} is too large", token.line, Quoted{token.text});
  return make(token.line, Literal{value});
}

/// Literals beside each other are one text.
Operand ExpressionParser::text_literal() {
  const int line = tokens_.line();
  std::string text;
  while (tokens_.at(TokenKind::kString)) {
    const Token token = tokens_.next();
    text += unescaped(token.text, token.line);
  }
  return make(line, Literal{std::string_view(result_.strings.emplace_back(std::move(text)))});
}

Operand ExpressionParser::parenthesised() {
  const int line = tokens_.next().line;
  const Operand inner = tokens_.at_operator(")") ? make(line, ListLiteral{{}, true}) : tuple();
  tokens_.expect_operator(")");
  return inner;
}

Operand ExpressionParser::list_literal() {
  const int line = tokens_.next().line;
  std::vector<Operand> items;
  while (!tokens_.at_operator("]")) {
    items.push_back(expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("]");
  return make(line, ListLiteral{std::move(items), false});
}

Operand ExpressionParser::mapping_literal() {
  const int line = tokens_.next().line;
  std::vector<std::pair<Operand, Operand>> entries;
  while (!tokens_.at_operator("}")) {
    const Operand key = expression();
    tokens_.expect_operator(":");
    entries.emplace_back(key, expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("}");
  return make(line, MappingLiteral{std::move(entries)});
}

Operand ExpressionParser::with_postfix(Operand operand) {
  for (;;) {
    const int line = tokens_.line();
    if (tokens_.at_operator("."))
      operand = attribute(operand);
    else if (tokens_.at_operator("["))
      operand = subscript(operand);
    else if (tokens_.at_operator("("))
      operand = make(line, Call{operand, arguments()});
    else
      return operand;
  }
}

Operand ExpressionParser::with_filters_and_tests(Operand operand) {
  for (;;) {
    const int line = tokens_.line();
    if (tokens_.skip_operator("|"))
      operand = filter(operand);
    else if (tokens_.skip_name("is"))
      operand = test(operand);
    else if (tokens_.at_operator("("))
      operand = make(line, Call{operand, arguments()});
    else
      return operand;
  }
}

Operand ExpressionParser::attribute(Operand object) {
  const int line = tokens_.next().line;
  if (tokens_.at(TokenKind::kInteger)) return make(line, Subscript{object, number()});
  return make(line, Attribute{object, tokens_.expect(TokenKind::kName, "the name of an attribute").text});
}

Operand ExpressionParser::subscript(Operand object) {
  const int line = tokens_.next().line;
  const auto ends = [&] { return tokens_.at_operator("]") || tokens_.at_operator(":"); };
  const Operand first = tokens_.at_operator(":") ? nullptr : expression();
  if (!tokens_.skip_operator(":")) {
    tokens_.expect_operator("]");
    return make(line, Subscript{object, first});
  }
  const Operand stop = ends() ? nullptr : expression();
  const Operand step = tokens_.skip_operator(":") && !ends() ? expression() : nullptr;
  tokens_.expect_operator("]");
  return make(line, Slice{object, first, stop, step});
}

ArgumentList ExpressionParser::arguments() {
  ArgumentList list;
  tokens_.expect_operator("(");
  while (!tokens_.at_operator(")")) {
    if (tokens_.at_operator("*") || tokens_.at_operator("**"))
      fail("line {}: arguments that are taken apart with {} are not supported", tokens_.line(),
           tokens_.current().text);
    if (tokens_.at(TokenKind::kName) && tokens_.look().kind == TokenKind::kOperator &&
        tokens_.look().text == "=") {
      const std::string_view name = tokens_.next().text;
      tokens_.next();
      list.named.emplace_back(name, expression());
    } else {
      if (!list.named.empty())
        fail("line {}: an argument without a name follows one with a name", tokens_.line());
      list.positional.push_back(expression());
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
  return list;
}

Operand ExpressionParser::filter(Operand operand) {
  const Token name = tokens_.expect(TokenKind::kName, "the name of a filter");
  ArgumentList given = tokens_.at_operator("(") ? arguments() : ArgumentList{};
  return make(name.line, FilterCall{operand, name.text, std::move(given)});
}

Operand ExpressionParser::test(Operand operand) {
  const bool negated = tokens_.skip_name("not");
  const Token name = tokens_.expect(TokenKind::kName, "the name of a test");
  ArgumentList given;
  const bool goes_on = tokens_.at_name("else") || tokens_.at_name("or") || tokens_.at_name("and");
  if (tokens_.at_operator("("))
    given = arguments();
  else if (!goes_on && (tokens_.at(TokenKind::kName) || tokens_.at(TokenKind::kString) ||
                        tokens_.at(TokenKind::kInteger) || tokens_.at(TokenKind::kFloat) ||
                        tokens_.at_operator("[") || tokens_.at_operator("{"))) {
    if (tokens_.at_name("is")) fail("line {}: tests can't be chained with is", tokens_.line());
    given.positional.push_back(with_postfix(primary()));
  }
  return make(name.line, TestCall{operand, name.text, std::move(given), negated});
}

std::vector<Operand> ExpressionParser::block_filters() {
  std::vector<Operand> filters;
  do filters.push_back(filter(nullptr));
  while (tokens_.skip_operator("|"));
  return filters;
}

}  // namespace gatewright::jinja
