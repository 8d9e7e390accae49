// Any template is refused with an Error or renders within its limits, twice the same. The first byte says
// what the input is: a source as it stands, or choices from a grammar of pieces, which nearly always parse.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gatewright/base/error.h"
#include "gatewright/text/chat_template.h"
#include "tests/fuzz/input.h"

namespace gatewright {
namespace {

constexpr jinja::Limits kLimits = {.steps = 20'000, .bytes = 1 << 20, .output_bytes = 1 << 16, .depth = 100};
constexpr int kDeepest = 6;

std::string_view pick(Input& input, std::initializer_list<std::string_view> words) {
  return words.begin()[input.byte() % words.size()];
}

std::string_view name(Input& input) {
  return pick(input, {"a", "b", "ns", "messages", "message", "tools", "loop", "x", "none", "true", "range",
                      "namespace", "dict"});
}

std::string_view attribute(Input& input) {
  return pick(input, {"role",  "content", "items",      "keys",   "get",        "index",   "last", "strip",
                      "split", "rsplit",  "upper",      "title",  "startswith", "replace", "join", "append",
                      "find",  "count",   "splitlines", "length", "cycle",      "nextitem"});
}

std::string_view filter(Input& input) {
  return pick(input, {"trim",  "upper",   "lower",  "capitalize", "title",      "length", "tojson",
                      "join",  "default", "items",  "selectattr", "rejectattr", "select", "reject",
                      "map",   "list",    "first",  "last",       "replace",    "string", "int",
                      "float", "abs",     "round",  "reverse",    "sort",       "unique", "sum",
                      "min",   "max",     "indent", "dictsort",   "escape",     "attr",   "nothing"});
}

std::string_view test(Input& input) {
  return pick(input, {"defined", "none", "string", "mapping", "iterable", "number", "boolean", "true", "odd",
                      "in", "equalto", "sameas", "divisibleby", "upper", "gt", "nothing"});
}

std::string_view literal(Input& input) {
  return pick(
      input,
      {"0",  "1",           "-1",       "2",           "7",     "1.5",     "1e300", "9223372036854775807",
       "''", "'a'",         "'role'",   "'\\u00e9 B'", "'a,b'", "' x\\n'", "[]",    "()",
       "{}", "[1, 2, 'a']", "{'k': 1}", "none",        "true",  "'upper'", "'odd'", "'%Y'"});
}

std::string expression(Input& input, int depth);

std::string call(Input& input, int depth) {
  std::string text = "(";
  for (int left = input.byte() % 3; left > 0; --left) text += expression(input, depth + 1) + ", ";
  if (input.byte() % 8 == 0) text += "attribute='role'";
  return text + ")";
}

std::string compound(Input& input, int depth, uint8_t kind) {
  const std::string left = expression(input, depth + 1);
  switch (kind % 10) {
    case 0:
      return left + "." + std::string(attribute(input)) + call(input, depth);
    case 1:
      return left + "[" + expression(input, depth + 1) + "]";
    case 2:
      return left + "[" + expression(input, depth + 1) + ":" + std::string(literal(input)) + "]";
    case 3:
      return left + " | " + std::string(filter(input)) + call(input, depth);
    case 4:
      return left + " is " + std::string(test(input)) + " " + std::string(literal(input));
    case 5:
      return left + " if " + expression(input, depth + 1) + " else " + std::string(literal(input));
    case 6:
      return std::string(name(input)) + call(input, depth);
    case 7:
      return "[" + left + ", " + expression(input, depth + 1) + "]";
    default:
      return left + " " +
             std::string(pick(input, {"+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "in",
                                      "not in", "and", "or"})) +
             " " + expression(input, depth + 1);
  }
}

std::string expression(Input& input, int depth) {
  const uint8_t kind = input.byte();
  if (depth >= kDeepest || kind % 4 == 0 || input.empty())
    return std::string(kind & 16 ? name(input) : literal(input));
  return kind & 128 ? "(" + compound(input, depth, kind) + ")" : compound(input, depth, kind);
}

std::string statements(Input& input, int depth);

std::string tag(Input& input, const std::string& inside) {
  const std::string open(pick(input, {"{% ", "{%- ", "{%+ "}));
  return open + inside + std::string(pick(input, {" %}", " -%}", " %}\n"}));
}

std::string statement(Input& input, int depth) {
  const std::string value = expression(input, 1);
  switch (input.byte() % 9) {
    case 0:
      return tag(input, "if " + value) + statements(input, depth + 1) + "{% else %}" +
             statements(input, depth + 1) + "{% endif %}";
    case 1:
      return tag(input, "for a in " + value) + statements(input, depth + 1) + tag(input, "endfor");
    case 2:
      return tag(input, "for a, b in " + value + " if a") + statements(input, depth + 1) +
             "{% break %}{% endfor %}";
    case 3:
      return tag(input, "set " + std::string(name(input)) + " = " + value);
    case 4:
      return tag(input, "set ns = namespace(x=" + value + ")") + "{% set ns.x = ns.x ~ 1 %}";
    case 5:
      return tag(input, "macro x(a, b=" + value + ")") + statements(input, depth + 1) + "{% endmacro %}";
    case 6:
      return tag(input, "set a") + statements(input, depth + 1) + "{% endset %}";
    case 7:
      return std::string(input.bytes(4));
    default:
      return "{{ " + value + " }}";
  }
}

std::string statements(Input& input, int depth) {
  std::string text;
  for (int left = depth < 4 ? 1 + input.byte() % 4 : 0; left > 0 && !input.empty(); --left)
    text += statement(input, depth);
  return text;
}

void run(Input input) {
  static const OrderedJson messages = OrderedJson::parse(
      R"([{"role": "user", "content": "Hi \u00e9"}, {"role": "assistant", "content": ["a", 1.5, null]}])");
  const bool plain = input.byte() % 4 == 0;
  const std::string source = plain ? std::string(input.rest()) : statements(input, 0);
  std::tm day = {};
  day.tm_mday = 1;
  const ChatTemplateInput given = {
      .bos_token = "<s>", .tools = messages, .more = {{"a", 3}, {"b", "text"}}, .now = day};
  try {
    const ChatTemplate chat(source, "the input");
    const RenderedChat rendered = chat.render(messages, given, kLimits);
    if (rendered.text.size() > kLimits.output_bytes) std::abort();
    size_t last = 0;
    for (const TextRange part : rendered.from_messages) {
      if (part.begin >= part.end || part.end > rendered.text.size()) std::abort();
      if (part.begin < last || (last > 0 && part.begin == last)) std::abort();
      last = part.end;
    }
    const RenderedChat again = chat.render(messages, given, kLimits);
    if (again.text != rendered.text || again.from_messages != rendered.from_messages) std::abort();
  } catch (const Error& error) {
    const std::string_view message = error.what();
    if (!message.starts_with("the input") || message.size() > 600) std::abort();
  }
}

}  // namespace
}  // namespace gatewright

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatewright::run(gatewright::Input(data, size));
  return 0;
}
