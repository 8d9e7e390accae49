#include "gatewright/text/chat_template.h"

#include "gatewright/base/error.h"
#include "gatewright/text/jinja/evaluator.h"
#include "gatewright/text/jinja/parser.h"

namespace gatewright {
namespace {

using jinja::Heap;
using jinja::Value;

/// Whether texts are marked as what strangers say.
enum class Marked { kNo, kYes };

Value value_of(Heap& heap, const OrderedJson& json, Marked marked);

Value text_of(Heap& heap, std::string_view text, Marked marked) {
  if (marked == Marked::kYes) heap.mark(text);
  return text;
}

Value list_of(Heap& heap, const OrderedJson& json, Marked marked) {
  std::vector<Value> items;
  for (const OrderedJson& element : json) items.push_back(value_of(heap, element, marked));
  return heap.make_list(std::move(items));
}

Value mapping_of(Heap& heap, const OrderedJson& json, Marked marked, std::string_view unmarked_key = {}) {
  jinja::Mapping* mapping = heap.make_mapping();
  heap.claim(json.size() * sizeof mapping->entries[0]);
  // Keys of an object are different, so none needs to be looked for.
  for (auto item = json.begin(); item != json.end(); ++item)
    mapping->entries.emplace_back(text_of(heap, item.key(), marked),
                                  value_of(heap, *item, item.key() == unmarked_key ? Marked::kNo : marked));
  return mapping;
}

Value value_of(Heap& heap, const OrderedJson& json, Marked marked) {
  const Heap::Deeper deeper(heap);
  heap.step();
  switch (json.type()) {
    case OrderedJson::value_t::boolean:
      return json.get<bool>();
    case OrderedJson::value_t::number_unsigned:
      require(json.get<uint64_t>() <= INT64_MAX, "the number {} does not fit 64 bits with a sign",
              json.dump());
      return json.get<int64_t>();
    case OrderedJson::value_t::number_integer:
      return json.get<int64_t>();
    case OrderedJson::value_t::number_float:
      return json.get<double>();
    case OrderedJson::value_t::string:
      return text_of(heap, json.get_ref<const std::string&>(), marked);
    case OrderedJson::value_t::array:
      return list_of(heap, json, marked);
    case OrderedJson::value_t::object:
      return mapping_of(heap, json, marked);
    default:
      return jinja::None{};
  }
}

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  return local;
}

/// Words of a template, as they may stand in an error: one line, cut when long.
std::string cleaned(std::string text) {
  constexpr size_t kLongest = 400;
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  if (text.size() <= kLongest) return text;
  size_t end = kLongest;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

/// Templates of some families make control tokens out of roles ('<|' + role + '|>'), which callers choose
/// from a few, so they are not marked.
Value messages_of(Heap& heap, const OrderedJson& messages) {
  std::vector<Value> items;
  for (const OrderedJson& message : messages)
    items.push_back(message.is_object() ? mapping_of(heap, message, Marked::kYes, "role")
                                        : value_of(heap, message, Marked::kYes));
  return heap.make_list(std::move(items));
}

/// The variables that a template is given. Texts stay in `messages` and `input`.
jinja::Mapping variables(Heap& heap, const OrderedJson& messages, const ChatTemplateInput& input) {
  jinja::Mapping all;
  all.set("messages", messages_of(heap, messages));
  all.set("add_generation_prompt", input.add_generation_prompt);
  all.set("tools", value_of(heap, input.tools, Marked::kYes));
  all.set("documents", jinja::None{});
  if (!input.bos_token.empty()) all.set("bos_token", std::string_view(input.bos_token));
  if (!input.eos_token.empty()) all.set("eos_token", std::string_view(input.eos_token));
  for (auto item = input.more.begin(); item != input.more.end(); ++item)
    all.set(item.key(), value_of(heap, *item, item.key() == "documents" ? Marked::kYes : Marked::kNo));
  return all;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source, std::string_view what) : what_(what) {
  try {
    template_ = jinja::parse_template(source);
  } catch (const Error& error) {
    fail("{}: {}", what_, error.what());
  }
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

RenderedChat ChatTemplate::render(std::span<const ChatMessage> messages,
                                  const ChatTemplateInput& input) const {
  OrderedJson list = OrderedJson::array();
  for (const ChatMessage& message : messages)
    list.push_back({{"role", message.role}, {"content", message.content}});
  return render(list, input);
}

RenderedChat ChatTemplate::render(const OrderedJson& messages, const ChatTemplateInput& input,
                                  const jinja::Limits& limits) const {
  Heap heap(limits);
  std::optional<jinja::Evaluator> evaluator;
  jinja::Mapping given;
  try {
    given = variables(heap, messages, input);
    evaluator.emplace(heap, given, input.now ? *input.now : local_time());
    jinja::MarkedText rendered = evaluator->render(*template_);
    return {.text = std::move(rendered.text), .from_messages = std::move(rendered.marks)};
  } catch (const jinja::Refusal& refusal) {
    fail("{} refuses these messages: {}", what_, cleaned(refusal.what()));
  } catch (const Error& error) {
    fail("{}{}: {}", what_,
         evaluator ? fmt::format(", line {}", evaluator->line()) : " got messages it can't take",
         cleaned(error.what()));
  }
}

}  // namespace gatewright
