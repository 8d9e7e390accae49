#include "gatewright/text/jinja/parser.h"

#include <algorithm>
#include <array>

#include "gatewright/text/jinja/expression_parser.h"

namespace gatewright::jinja {
namespace {

class Parser {
 public:
  Parser(TokenStream tokens, Template& result)
      : tokens_(std::move(tokens)), result_(result), expressions_(tokens_, result, depth_) {}

  void run() {
    result_.body = body({});
    if (!tokens_.at(TokenKind::kEnd)) tokens_.fail_unexpected("the end of the template");
  }

 private:
  using Words = std::initializer_list<std::string_view>;

  /// Statements up to a tag that begins with one of the words, which becomes the current token; or to the
  /// end.
  Body body(Words ends) {
    const ParserDepth deeper(depth_, tokens_.line());
    Body statements;
    while (!tokens_.at(TokenKind::kEnd)) {
      const int line = tokens_.line();
      if (tokens_.at(TokenKind::kText)) {
        statements.push_back({line, Text{tokens_.next().text}});
      } else if (tokens_.at(TokenKind::kOpenVariable)) {
        tokens_.next();
        statements.push_back({line, Output{expressions_.tuple()}});
        tokens_.expect(TokenKind::kCloseVariable, "}}");
      } else {
        tokens_.expect(TokenKind::kOpenBlock, "a tag");
        const std::string_view word = tokens_.at(TokenKind::kName) ? tokens_.current().text : "";
        if (std::ranges::find(ends, word) != ends.end() && ends.size() > 0) return statements;
        statements.push_back(statement());
      }
    }
    return statements;
  }

  /// A body from behind the tag that opens it to its end, which must come.
  Body inner_body(Words ends) {
    close_block();
    Body statements = body(ends);
    if (tokens_.at(TokenKind::kEnd)) tokens_.fail_unexpected(fmt::format("{{% {} %}}", *(ends.end() - 1)));
    return statements;
  }

  Body whole_body(std::string_view end) {
    Body statements = inner_body({end});
    tokens_.next();
    close_block();
    return statements;
  }

  void close_block() { tokens_.expect(TokenKind::kCloseBlock, "%}"); }

  Statement statement() {
    const Token word = tokens_.expect(TokenKind::kName, "the name of a tag");
    const int line = word.line;
    if (word.text == "if") return {line, if_statement()};
    if (word.text == "for") return {line, for_statement()};
    if (word.text == "set") return set_statement(line);
    if (word.text == "macro") return {line, macro_statement()};
    if (word.text == "filter") return {line, filter_statement()};
    if (word.text == "with") return {line, with_statement()};
    if (word.text == "generation") return {line, With{{}, whole_body("endgeneration")}};
    if (word.text == "break") return loop_control(line, Statement{line, Break{}}, "break");
    if (word.text == "continue") return loop_control(line, Statement{line, Continue{}}, "continue");
    fail("line {}: the tag {} is not known here", line, Quoted{word.text});
  }

  Statement loop_control(int line, Statement statement, std::string_view name) {
    if (loops_ == 0) fail("line {}: {} stands in no loop", line, name);
    close_block();
    return statement;
  }

  If if_statement() {
    If result;
    for (;;) {
      const Operand condition = expressions_.tuple(false);
      result.branches.emplace_back(condition, inner_body({"elif", "else", "endif"}));
      if (tokens_.skip_name("elif")) continue;
      if (tokens_.next().text == "else")
        result.otherwise = whole_body("endif");
      else
        close_block();
      return result;
    }
  }

  /// a or a, b or (a, b)
  std::vector<std::string_view> targets() {
    const bool parenthesised = tokens_.skip_operator("(");
    std::vector<std::string_view> names;
    do names.push_back(target());
    while (tokens_.skip_operator(",") && tokens_.at(TokenKind::kName));
    if (parenthesised) tokens_.expect_operator(")");
    return names;
  }

  std::string_view target() {
    constexpr std::array<std::string_view, 6> constants = {"true", "false", "none", "True", "False", "None"};
    const Token name = tokens_.expect(TokenKind::kName, "the name of a variable");
    if (std::ranges::find(constants, name.text) != constants.end())
      fail("line {}: {} can't be assigned", name.line, name.text);
    return name.text;
  }

  For for_statement() {
    For loop{.targets = targets(), .iterable = nullptr, .condition = nullptr, .body = {}, .otherwise = {}};
    if (!tokens_.skip_name("in")) tokens_.fail_unexpected("in");
    loop.iterable = expressions_.tuple(false);
    if (tokens_.skip_name("if")) loop.condition = expressions_.expression();
    if (tokens_.at_name("recursive")) fail("line {}: recursive loops are not supported", tokens_.line());
    ++loops_;
    loop.body = inner_body({"else", "endfor"});
    --loops_;
    if (tokens_.next().text == "else")
      loop.otherwise = whole_body("endfor");
    else
      close_block();
    return loop;
  }

  Statement set_statement(int line) {
    std::string_view object;
    std::vector<std::string_view> names;
    if (tokens_.at(TokenKind::kName) && tokens_.look().text == "." &&
        tokens_.look().kind == TokenKind::kOperator) {
      object = tokens_.next().text;
      tokens_.next();
      names.push_back(tokens_.expect(TokenKind::kName, "the name of an attribute").text);
    } else {
      names = targets();
    }
    if (tokens_.skip_operator("=")) {
      const Operand value = expressions_.tuple();
      close_block();
      return {line, Set{object, std::move(names), value}};
    }
    if (!object.empty() || names.size() > 1) tokens_.fail_unexpected("=");
    std::vector<Operand> filters;
    if (tokens_.skip_operator("|")) filters = expressions_.block_filters();
    return {line, Capture{names[0], std::move(filters), separate_body("endset")}};
  }

  /// A body whose break and continue can't reach a loop outside.
  Body separate_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body result = whole_body(end);
    loops_ = loops;
    return result;
  }

  Macro macro_statement() {
    Macro macro{.name = target(), .parameters = {}, .body = {}};
    tokens_.expect_operator("(");
    while (!tokens_.at_operator(")")) {
      const std::string_view name = target();
      macro.parameters.emplace_back(name, tokens_.skip_operator("=") ? expressions_.expression() : nullptr);
      if (!tokens_.skip_operator(",")) break;
    }
    tokens_.expect_operator(")");
    macro.body = separate_body("endmacro");
    return macro;
  }

  Capture filter_statement() {
    std::vector<Operand> filters = expressions_.block_filters();
    return {"", std::move(filters), separate_body("endfilter")};
  }

  With with_statement() {
    With result;
    while (!tokens_.at(TokenKind::kCloseBlock)) {
      const std::string_view name = target();
      tokens_.expect_operator("=");
      result.variables.emplace_back(name, expressions_.expression());
      if (!tokens_.skip_operator(",")) break;
    }
    result.body = whole_body("endwith");
    return result;
  }

  TokenStream tokens_;
  Template& result_;
  int depth_ = 0;
  int loops_ = 0;
  ExpressionParser expressions_;
};

}  // namespace

std::unique_ptr<const Template> parse_template(std::string_view source) {
  constexpr size_t kLargest = 256 << 10;  // published ones have up to 20 thousand bytes
  require(source.size() <= kLargest, "it has {} bytes, more than {}", source.size(), kLargest);
  auto result = std::make_unique<Template>();
  result->source = normalised_source(source);
  Parser(TokenStream(tokenise(result->source)), *result).run();
  return result;
}

}  // namespace gatewright::jinja
