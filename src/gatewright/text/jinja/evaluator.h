// Renders a template: statements in order, expressions by Python's rules.
#pragma once

#include <ctime>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/text/jinja/arguments.h"
#include "gatewright/text/jinja/syntax.h"
#include "gatewright/text/jinja/value.h"

namespace gatewright::jinja {

/// Names and values of one block, one iteration, one macro; the one around it is looked into next.
struct Scope {
  Scope* outer = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables = {};

  void set(std::string_view name, const Value& value);
};

class Evaluator {
 public:
  /// `now` is what strftime_now tells. `globals`: the variables the template is given.
  Evaluator(Heap& heap, const Mapping& globals, const std::tm& now)
      : heap_(heap), globals_(globals), now_(now) {}

  /// Errors don't name a line: the one they arose in is line().
  MarkedText render(const Template& source);
  int line() const { return line_; }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  Flow run(const Body& body, Scope& scope);
  Flow run(const Statement& statement, Scope& scope);
  Flow run(const Text& text, Scope& scope);
  Flow run(const Output& output, Scope& scope);
  Flow run(const If& statement, Scope& scope);
  Flow run(const For& loop, Scope& scope);
  Flow run(const Set& set, Scope& scope);
  Flow run(const Capture& capture, Scope& scope);
  Flow run(const Macro& macro, Scope& scope);
  Flow run(const With& with, Scope& scope);
  Flow run(const Break&, Scope&) { return Flow::kBreak; }
  Flow run(const Continue&, Scope&) { return Flow::kContinue; }

  std::vector<Value> loop_elements(const For& loop, Scope& scope);
  Flow iterate(const For& loop, const std::vector<Value>& elements, Scope& scope);
  void assign(const std::vector<std::string_view>& targets, const Value& value, Scope& scope);
  /// What the body writes.
  std::string_view captured(const Body& body, Scope& scope);
  void write(std::string_view text);

  Value evaluate(Operand expression, Scope& scope);
  Value evaluate(const Literal& literal, Scope& scope);
  Value evaluate(const Name& name, Scope& scope);
  Value evaluate(const ListLiteral& list, Scope& scope);
  Value evaluate(const MappingLiteral& mapping, Scope& scope);
  Value evaluate(const Unary& unary, Scope& scope);
  Value evaluate(const Binary& binary, Scope& scope);
  Value evaluate(const Comparison& comparison, Scope& scope);
  Value evaluate(const Conditional& conditional, Scope& scope);
  Value evaluate(const Attribute& attribute, Scope& scope);
  Value evaluate(const Subscript& subscript, Scope& scope);
  Value evaluate(const Slice& slice, Scope& scope);
  Value evaluate(const Call& call, Scope& scope);
  Value evaluate(const FilterCall& filter, Scope& scope);
  Value evaluate(const TestCall& test, Scope& scope);

  Value optional(Operand expression, Scope& scope);
  Arguments arguments(const ArgumentList& list, Scope& scope);
  Value call(const Function& function, const Arguments& arguments);
  Value call_macro(const Macro& macro, const Arguments& arguments);

  Heap& heap_;
  const Mapping& globals_;
  std::tm now_;
  Scope root_;
  MarkedText* out_ = nullptr;
  int line_ = 0;
  int loops_ = 0;  // around what runs
};

/// raise_exception was called.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The functions that every template has: range, namespace, dict, raise_exception, strftime_now.
bool is_global_function(std::string_view name);
Value call_global_function(Heap& heap, std::string_view name, const Arguments& arguments, const std::tm& now);

}  // namespace gatewright::jinja
