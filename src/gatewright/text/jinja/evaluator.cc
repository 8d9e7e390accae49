#include "gatewright/text/jinja/evaluator.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"
#include "gatewright/text/jinja/filters.h"
#include "gatewright/text/jinja/methods.h"
#include "gatewright/text/jinja/operators.h"

namespace gatewright::jinja {
namespace {

const Value* find_variable(const Scope* scope, std::string_view name) {
  for (; scope; scope = scope->outer) {
    const auto it = std::ranges::find(scope->variables, name, &std::pair<std::string_view, Value>::first);
    if (it != scope->variables.end()) return &it->second;
  }
  return nullptr;
}

constexpr std::string_view kCycle = "cycle";

/// What a template sees as `loop` at element i.
void describe_loop(Mapping& loop, const std::vector<Value>& elements, size_t i, int depth) {
  const auto index = static_cast<int64_t>(i), count = static_cast<int64_t>(elements.size());
  loop.set("index", index + 1);
  loop.set("index0", index);
  loop.set("revindex", count - index);
  loop.set("revindex0", count - index - 1);
  loop.set("first", i == 0);
  loop.set("last", i + 1 == elements.size());
  loop.set("length", count);
  loop.set("depth", int64_t{depth});
  loop.set("depth0", int64_t{depth} - 1);
  loop.set("previtem", i > 0 ? elements[i - 1] : Undefined{"loop.previtem"});
  loop.set("nextitem", i + 1 < elements.size() ? elements[i + 1] : Undefined{"loop.nextitem"});
}

}  // namespace

void Scope::set(std::string_view name, const Value& value) {
  const auto it = std::ranges::find(variables, name, &std::pair<std::string_view, Value>::first);
  if (it == variables.end())
    variables.emplace_back(name, value);
  else
    it->second = value;
}

MarkedText Evaluator::render(const Template& source) {
  MarkedText out;
  out_ = &out;
  run(source.body, root_);
  return out;
}

void Evaluator::write(std::string_view text) {
  heap_.claim_output(text.size());
  heap_.append(*out_, text);
}

// --- statements ---

Evaluator::Flow Evaluator::run(const Body& body, Scope& scope) {
  for (const Statement& statement : body)
    if (const Flow flow = run(statement, scope); flow != Flow::kOn) return flow;
  return Flow::kOn;
}

Evaluator::Flow Evaluator::run(const Statement& statement, Scope& scope) {
  const Heap::Deeper deeper(heap_);
  line_ = statement.line;
  heap_.step();
  return std::visit([&](const auto& node) { return run(node, scope); }, statement.node);
}

Evaluator::Flow Evaluator::run(const Text& text, Scope&) {
  write(text.text);
  return Flow::kOn;
}

Evaluator::Flow Evaluator::run(const Output& output, Scope& scope) {
  write(to_text(heap_, evaluate(output.value, scope)));
  return Flow::kOn;
}

Evaluator::Flow Evaluator::run(const If& statement, Scope& scope) {
  for (const auto& [condition, body] : statement.branches)
    if (is_true(evaluate(condition, scope))) return run(body, scope);
  return run(statement.otherwise, scope);
}

std::vector<Value> Evaluator::loop_elements(const For& loop, Scope& scope) {
  const std::vector<Value>& all = jinja::elements(heap_, evaluate(loop.iterable, scope));
  heap_.claim(all.size() * sizeof(Value));
  if (!loop.condition) return all;
  const std::vector<Value> before = all;  // the condition may change the list
  std::vector<Value> kept;
  for (const Value& element : before) {
    Scope inner{.outer = &scope};
    assign(loop.targets, element, inner);
    if (is_true(evaluate(loop.condition, inner))) kept.push_back(element);
  }
  return kept;
}

Evaluator::Flow Evaluator::run(const For& loop, Scope& scope) {
  const std::vector<Value> elements = loop_elements(loop, scope);
  if (elements.empty()) {
    Scope inner{.outer = &scope};
    return run(loop.otherwise, inner);
  }
  ++loops_;
  iterate(loop, elements, scope);
  --loops_;
  return Flow::kOn;
}

Evaluator::Flow Evaluator::iterate(const For& loop, const std::vector<Value>& elements, Scope& scope) {
  Mapping* description = heap_.make_mapping();
  description->is_namespace = true;
  description->set(kCycle, heap_.make_function({.name = kCycle, .object = description}));
  for (size_t i = 0; i < elements.size(); ++i) {
    heap_.step();
    describe_loop(*description, elements, i, loops_);
    Scope inner{.outer = &scope, .variables = {{"loop", description}}};
    assign(loop.targets, elements[i], inner);
    if (run(loop.body, inner) == Flow::kBreak) break;
  }
  return Flow::kOn;
}

void Evaluator::assign(const std::vector<std::string_view>& targets, const Value& value, Scope& scope) {
  if (targets.size() == 1) return scope.set(targets[0], value);
  const std::vector<Value>& parts = jinja::elements(heap_, value);
  if (parts.size() != targets.size())
    fail("{} values can't be given to {} names", parts.size(), targets.size());
  for (size_t i = 0; i < targets.size(); ++i) scope.set(targets[i], parts[i]);
}

Evaluator::Flow Evaluator::run(const Set& set, Scope& scope) {
  const Value value = evaluate(set.value, scope);
  if (set.object.empty()) {
    assign(set.targets, value, scope);
    return Flow::kOn;
  }
  const Value object = evaluate(Name{set.object}, scope);
  const auto* mapping = as<Mapping*>(object);
  if (!mapping || !(*mapping)->is_namespace)
    fail("{} is no namespace: its attributes can't be set", Quoted{set.object});
  heap_.claim(sizeof(Mapping::Entry));
  (*mapping)->set(set.targets[0], value);
  return Flow::kOn;
}

std::string_view Evaluator::captured(const Body& body, Scope& scope) {
  MarkedText text;
  MarkedText* const before = std::exchange(out_, &text);
  Scope inner{.outer = &scope};
  run(body, inner);
  out_ = before;
  heap_.claim(text.text.size());
  return heap_.adopt(std::move(text));
}

Evaluator::Flow Evaluator::run(const Capture& capture, Scope& scope) {
  Value value = captured(capture.body, scope);
  for (const Operand filter : capture.filters) {
    const auto& call = std::get<FilterCall>(filter->node);
    value = apply_filter(heap_, call.name, value, arguments(call.arguments, scope));
  }
  if (capture.target.empty())
    write(to_text(heap_, value));
  else
    scope.set(capture.target, value);
  return Flow::kOn;
}

Evaluator::Flow Evaluator::run(const Macro& macro, Scope& scope) {
  // A macro sees the variables around its definition, which must live as long as it does.
  if (&scope != &root_) fail("the macro {} stands in a loop, a block or another macro", Quoted{macro.name});
  scope.set(macro.name, heap_.make_function({.name = macro.name, .macro = &macro}));
  return Flow::kOn;
}

Evaluator::Flow Evaluator::run(const With& with, Scope& scope) {
  Scope inner{.outer = &scope};
  for (const auto& [name, value] : with.variables) inner.set(name, evaluate(value, scope));
  return run(with.body, inner);
}

// --- expressions ---

Value Evaluator::evaluate(Operand expression, Scope& scope) {
  const Heap::Deeper deeper(heap_);
  heap_.step();
  line_ = expression->line;
  return std::visit([&](const auto& node) { return evaluate(node, scope); }, expression->node);
}

Value Evaluator::optional(Operand expression, Scope& scope) {
  return expression ? evaluate(expression, scope) : Undefined{};
}

Value Evaluator::evaluate(const Literal& literal, Scope&) { return literal.value; }

Value Evaluator::evaluate(const Name& name, Scope& scope) {
  if (const Value* found = find_variable(&scope, name.name)) return *found;
  if (const Value* found = globals_.find(name.name)) return *found;
  if (is_global_function(name.name)) return heap_.make_function({.name = name.name});
  return Undefined{name.name};
}

Value Evaluator::evaluate(const ListLiteral& list, Scope& scope) {
  std::vector<Value> items;
  for (const Operand item : list.items) items.push_back(evaluate(item, scope));
  return heap_.make_list(std::move(items), list.tuple);
}

Value Evaluator::evaluate(const MappingLiteral& mapping, Scope& scope) {
  Mapping* result = heap_.make_mapping();
  heap_.claim(mapping.entries.size() * sizeof result->entries[0]);
  for (const auto& [key, value] : mapping.entries) {
    const Value name = evaluate(key, scope);
    require_key(name);
    heap_.step(1 + result->entries.size() / 16);
    result->set(name, evaluate(value, scope));
  }
  return result;
}

Value Evaluator::evaluate(const Unary& unary, Scope& scope) {
  const Value value = evaluate(unary.operand, scope);
  if (unary.operation == UnaryOperator::kNot) return !is_true(value);
  return unary.operation == UnaryOperator::kMinus ? negate(value) : negate(negate(value));
}

Value Evaluator::evaluate(const Binary& binary, Scope& scope) {
  const int line = line_;
  const Value left = evaluate(binary.left, scope);
  if (binary.operation == BinaryOperator::kAnd) return is_true(left) ? evaluate(binary.right, scope) : left;
  if (binary.operation == BinaryOperator::kOr) return is_true(left) ? left : evaluate(binary.right, scope);
  const Value right = evaluate(binary.right, scope);
  line_ = line;
  return calculate(heap_, binary.operation, left, right);
}

Value Evaluator::evaluate(const Comparison& comparison, Scope& scope) {
  Value left = evaluate(comparison.first, scope);
  for (const auto& [comparator, operand] : comparison.rest) {
    const Value right = evaluate(operand, scope);
    if (!compare(heap_, comparator, left, right)) return false;
    left = right;
  }
  return true;
}

Value Evaluator::evaluate(const Conditional& conditional, Scope& scope) {
  return is_true(evaluate(conditional.condition, scope)) ? evaluate(conditional.then, scope)
                                                         : optional(conditional.otherwise, scope);
}

Value Evaluator::evaluate(const Attribute& attribute, Scope& scope) {
  return attribute_of(heap_, evaluate(attribute.object, scope), attribute.name);
}

Value Evaluator::evaluate(const Subscript& subscript, Scope& scope) {
  const Value object = evaluate(subscript.object, scope);
  return item_of(heap_, object, evaluate(subscript.index, scope));
}

Value Evaluator::evaluate(const Slice& slice, Scope& scope) {
  const Value object = evaluate(slice.object, scope);
  const Value start = optional(slice.start, scope), stop = optional(slice.stop, scope);
  return slice_of(heap_, object, start, stop, optional(slice.step, scope));
}

Arguments Evaluator::arguments(const ArgumentList& list, Scope& scope) {
  Arguments result;
  for (const Operand argument : list.positional) result.positional.push_back(evaluate(argument, scope));
  for (const auto& [name, argument] : list.named) result.named.emplace_back(name, evaluate(argument, scope));
  return result;
}

Value Evaluator::evaluate(const FilterCall& filter, Scope& scope) {
  const int line = line_;
  const Value value = evaluate(filter.operand, scope);
  const Arguments given = arguments(filter.arguments, scope);
  line_ = line;
  return apply_filter(heap_, filter.name, value, given);
}

Value Evaluator::evaluate(const TestCall& test, Scope& scope) {
  const int line = line_;
  const Value value = evaluate(test.operand, scope);
  const Arguments given = arguments(test.arguments, scope);
  line_ = line;
  return apply_test(heap_, test.name, value, given) != test.negated;
}

Value Evaluator::evaluate(const Call& called, Scope& scope) {
  const int line = line_;
  const Value callee = evaluate(called.function, scope);
  const Arguments given = arguments(called.arguments, scope);
  line_ = line;
  if (const auto* undefined = as<Undefined>(callee)) fail("there is no function {}", Quoted{undefined->name});
  const auto* function = as<Function*>(callee);
  if (!function) fail("{} can't be called", kind_name(callee));
  return call(**function, given);
}

Value Evaluator::call(const Function& function, const Arguments& given) {
  if (function.macro) return call_macro(*function.macro, given);
  if (!function.object) return call_global_function(heap_, function.name, given, now_);
  const auto* mapping = as<Mapping*>(*function.object);
  if (!mapping || !(*mapping)->is_namespace)
    return call_method(heap_, *function.object, function.name, given);
  require(!given.positional.empty(), "loop.cycle needs something to choose from");
  const int64_t index = *integer_of(*(*mapping)->find("index0"));
  return given.positional[static_cast<size_t>(index) % given.positional.size()];
}

Value Evaluator::call_macro(const Macro& macro, const Arguments& given) {
  Scope scope{.outer = &root_};
  const int line = line_;
  if (given.positional.size() > macro.parameters.size())
    fail("the macro {} takes at most {} arguments, not {}", Quoted{macro.name}, macro.parameters.size(),
         given.positional.size());
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, otherwise] = macro.parameters[i];
    const auto named = std::ranges::find(given.named, name, &std::pair<std::string_view, Value>::first);
    if (i < given.positional.size())
      scope.set(name, given.positional[i]);
    else if (named != given.named.end())
      scope.set(name, named->second);
    else
      scope.set(name, otherwise ? evaluate(otherwise, scope) : Undefined{name});
  }
  for (const auto& [name, value] : given.named) {
    if (std::ranges::find(macro.parameters, name, &std::pair<std::string_view, Operand>::first) ==
        macro.parameters.end())
      fail("the macro {} takes no argument {}", Quoted{macro.name}, Quoted{name});
  }
  const int loops = std::exchange(loops_, 0);
  const std::string_view text = captured(macro.body, scope);
  loops_ = loops;
  line_ = line;
  return text;
}

}  // namespace gatewright::jinja
