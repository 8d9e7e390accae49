#include <algorithm>
#include <array>

#include "gatewright/base/error.h"
#include "gatewright/text/jinja/evaluator.h"

namespace gatewright::jinja {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"range", "namespace", "dict", "raise_exception",
                                                    "strftime_now"};

Value range(Heap& heap, const Arguments& arguments) {
  const Bound a(arguments, "range", {"start", "stop", "step"}, 1);
  const int64_t start = a[1] ? a.integer(0, 0) : 0, stop = a[1] ? a.integer(1, 0) : a.integer(0, 0);
  const int64_t step = a.integer(2, 1);
  require(step != 0, "the step of a range can't be 0");
  std::vector<Value> items;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    heap.step();
    heap.claim(sizeof(Value));
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return heap.make_list(std::move(items));
}

/// namespace(a=1) and dict(a=1), both also from a mapping.
Value make_mapping(Heap& heap, const Arguments& arguments, bool is_namespace) {
  require(arguments.positional.size() <= 1, "one mapping and named values were expected");
  Mapping* result = heap.make_mapping();
  result->is_namespace = is_namespace;
  const auto add = [&](const Value& key, const Value& value) {
    heap.claim(sizeof(Mapping::Entry));
    heap.step(1 + result->entries.size() / 16);
    result->set(key, value);
  };
  if (!arguments.positional.empty()) {
    const auto* other = as<Mapping*>(arguments.positional[0]);
    if (!other) fail("a mapping was expected, not {}", kind_name(arguments.positional[0]));
    for (const auto& [key, value] : (*other)->entries) add(key, value);
  }
  for (const auto& [key, value] : arguments.named) add(key, value);
  return result;
}

Value formatted_time(Heap& heap, const Arguments& arguments, const std::tm& now) {
  constexpr size_t kLongestFormat = 256, kLongestTime = 4096;
  const std::string_view given = Bound(arguments, "strftime_now", {"format"}, 1).text(0, "");
  const std::string format(given);
  require(format.size() <= kLongestFormat && format.find('\0') == std::string::npos,
          "strftime_now: the format is longer than {} bytes", kLongestFormat);
  std::string text(kLongestTime, '\0');
  const size_t size = format.empty() ? 0 : std::strftime(text.data(), text.size(), format.c_str(), &now);
  text.resize(size);
  return heap.keep(std::move(text), given);
}

}  // namespace

bool is_global_function(std::string_view name) { return std::ranges::find(kNames, name) != kNames.end(); }

Value call_global_function(Heap& heap, std::string_view name, const Arguments& arguments,
                           const std::tm& now) {
  if (name == "range") return range(heap, arguments);
  if (name == "namespace") return make_mapping(heap, arguments, true);
  if (name == "dict") return make_mapping(heap, arguments, false);
  if (name == "strftime_now") return formatted_time(heap, arguments, now);
  throw Refusal(std::string(to_text(heap, *Bound(arguments, name, {"message"}, 1)[0])));
}

}  // namespace gatewright::jinja
