// A template taken apart: statements that hold statements, and expressions that point to expressions. What
// they point to lives in the Template, so that taking one down needs no recursion, however deep it is.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

struct Expression;
using Operand = const Expression*;

struct ArgumentList {
  std::vector<Operand> positional;
  std::vector<std::pair<std::string_view, Operand>> named;
};

struct Literal {
  Value value;
};
struct Name {
  std::string_view name;
};
struct ListLiteral {
  std::vector<Operand> items;
  bool tuple;
};
struct MappingLiteral {
  std::vector<std::pair<Operand, Operand>> entries;
};
enum class UnaryOperator : uint8_t { kNot, kMinus, kPlus };
struct Unary {
  UnaryOperator operation;
  Operand operand;
};
enum class BinaryOperator : uint8_t {
  kOr,
  kAnd,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kConcatenate
};
struct Binary {
  BinaryOperator operation;
  Operand left, right;
};
enum class Comparator : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
struct Comparison {
  Operand first;
  std::vector<std::pair<Comparator, Operand>> rest;  // a < b < c
};
struct Conditional {
  Operand condition, then, otherwise;  // otherwise: null gives undefined
};
struct Attribute {
  Operand object;
  std::string_view name;
};
struct Subscript {
  Operand object, index;
};
struct Slice {
  Operand object, start, stop, step;  // null where left out
};
struct Call {
  Operand function;
  ArgumentList arguments;
};
struct FilterCall {
  Operand operand;  // null: the text of a block
  std::string_view name;
  ArgumentList arguments;
};
struct TestCall {
  Operand operand;
  std::string_view name;
  ArgumentList arguments;
  bool negated;
};

struct Expression {
  int line;
  std::variant<Literal, Name, ListLiteral, MappingLiteral, Unary, Binary, Comparison, Conditional, Attribute,
               Subscript, Slice, Call, FilterCall, TestCall>
      node;
};

struct Statement;
using Body = std::vector<Statement>;

struct Text {
  std::string_view text;
};
struct Output {
  Operand value;
};
struct If {
  std::vector<std::pair<Operand, Body>> branches;
  Body otherwise;
};
struct For {
  std::vector<std::string_view> targets;  // more than one: elements are taken apart
  Operand iterable, condition;            // condition: null takes every element
  Body body, otherwise;
};
/// {% set a = x %}, {% set a, b = x %}, {% set object.a = x %}
struct Set {
  std::string_view object;  // a namespace, or empty
  std::vector<std::string_view> targets;
  Operand value;
};
/// {% set a | filter %}...{% endset %} and, without a target, {% filter ... %}...{% endfilter %}
struct Capture {
  std::string_view target;
  std::vector<Operand> filters;  // FilterCalls, the first applied first
  Body body;
};
struct Macro {
  std::string_view name;
  std::vector<std::pair<std::string_view, Operand>> parameters;  // with their defaults or null
  Body body;
};
/// {% with a = x %}...{% endwith %}, {% generation %}...{% endgeneration %}
struct With {
  std::vector<std::pair<std::string_view, Operand>> variables;
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Text, Output, If, For, Set, Capture, Macro, With, Break, Continue> node;
};

struct Template {
  std::string source;               // the names and texts of the rest point into it
  std::deque<std::string> strings;  // literals with escapes resolved
  std::deque<Expression> expressions;
  Body body;
};

}  // namespace gatewright::jinja
