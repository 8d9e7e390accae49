// Chat templates: what a model's publisher says a conversation looks like as one text. They are programs in
// the language Jinja, which strangers wrote, so they run in an interpreter of our own (text/jinja), as
// Transformers would run them, under bounds on steps, depth and output.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gatewright/base/json.h"
#include "gatewright/text/jinja/value.h"
#include "gatewright/text/text_range.h"

namespace gatewright {

namespace jinja {
struct Template;
}

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", ...
  std::string content;
};

/// What a template sees besides the messages.
struct ChatTemplateInput {
  bool add_generation_prompt = true;           // the text ends where the assistant's answer begins
  std::string bos_token = {}, eos_token = {};  // empty: not defined
  OrderedJson tools = nullptr;                 // a list of functions that may be called
  OrderedJson more = OrderedJson::object();    // other variables by name, such as enable_thinking
  std::optional<std::tm> now = {};             // what strftime_now tells; absent: the local time
};

/// A conversation as one text.
struct RenderedChat {
  std::string text;
  /// What came out of the messages (but for their roles), the tools and documents, in order and apart from
  /// each other. A name of a control token that has a byte in there is not the template's:
  /// EncodeOptions::plain keeps it text.
  std::vector<TextRange> from_messages;
};

class ChatTemplate {
 public:
  /// Takes the source apart. `what` names it in errors, which also name the line.
  explicit ChatTemplate(std::string_view source, std::string_view what);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// What the template finds wrong with the messages (raise_exception) is an error with its words, and so is
  /// a rendering beyond the limits.
  RenderedChat render(std::span<const ChatMessage> messages, const ChatTemplateInput& input = {}) const;
  /// Messages as a list of objects, which may have more than role and content.
  RenderedChat render(const OrderedJson& messages, const ChatTemplateInput& input = {},
                      const jinja::Limits& limits = {}) const;

 private:
  std::string what_;
  std::unique_ptr<const jinja::Template> template_;
};

}  // namespace gatewright
