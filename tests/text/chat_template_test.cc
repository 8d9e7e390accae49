// Conversations as the families write them. The templates are our own, made of the constructs that published
// ones use.
#include "gatewright/text/chat_template.h"

#include <gmock/gmock.h>

#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

const std::vector<ChatMessage> kShort = {{"user", "Hi"}};
const std::vector<ChatMessage> kLong = {
    {"system", "Be kind."}, {"user", " Hi "}, {"assistant", "Hello!"}, {"user", "Why?"}};

std::string rendered(std::string_view source, std::span<const ChatMessage> messages,
                     const ChatTemplateInput& input = {}) {
  return ChatTemplate(source, "the template").render(messages, input).text;
}

/// The parts that came from the messages.
std::vector<std::string> parts_from_messages(const RenderedChat& chat) {
  std::vector<std::string> parts;
  for (const TextRange part : chat.from_messages)
    parts.push_back(chat.text.substr(part.begin, part.end - part.begin));
  return parts;
}

// SmolLM2, Qwen: begin and end marks around each message, a system message when there is none.
constexpr std::string_view kMarked = R"({% for message in messages %}
{% if loop.first and message['role'] != 'system' %}
{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %}
)";

TEST(ChatTemplate, MarksEachMessage) {
  EXPECT_EQ(
      rendered(kMarked, kShort),
      "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(rendered(kMarked, kLong, {.add_generation_prompt = false}),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
            "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n");
}

// Llama-3: headers, trimmed contents, the begin token once, the date.
constexpr std::string_view kHeaders = R"({{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|header|>system<|end|>\n\nToday: " + date_string + "\n\n" }}
{{- system_message }}
{%- for message in messages %}
    {{- '<|header|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant<|end|>\n\n' }}
{%- endif %}
)";

TEST(ChatTemplate, TellsTheDateAndTakesTheSystemMessageApart) {
  std::tm day = {};
  day.tm_year = 126, day.tm_mon = 1, day.tm_mday = 3;
  EXPECT_EQ(rendered(kHeaders, kLong, {.bos_token = "<s>", .now = day}),
            "<s><|header|>system<|end|>\n\nToday: 03 Feb 2026\n\nBe kind.<|header|>user<|end|>\n\nHi<|eot|>"
            "<|header|>assistant<|end|>\n\nHello!<|eot|><|header|>user<|end|>\n\nWhy?<|eot|><|header|>"
            "assistant<|end|>\n\n");
  EXPECT_THAT(rendered(kHeaders, kShort, {.more = {{"date_string", "1 May"}}}),
              AllOf(StartsWith("<|header|>system<|end|>\n\nToday: 1 May\n\n<|header|>user"),
                    EndsWith("assistant<|end|>\n\n")));
}

// Mistral: turns must alternate, the end token behind each answer.
constexpr std::string_view kTurns = R"({{ bos_token }}{% if messages[0]['role'] == 'system' %}
{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] + '\n\n' %}
{% else %}{% set loop_messages = messages %}{% set system = '' %}{% endif %}
{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate: user, assistant, user, assistant, ...') }}{% endif %}
{% if message['role'] == 'user' %}
{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}
{{ ' ' + message['content'] | trim + eos_token }}{% else %}
{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}
{% endfor %}
)";

TEST(ChatTemplate, MayRefuseMessagesInItsOwnWords) {
  EXPECT_EQ(rendered(kTurns, kLong, {.bos_token = "<s>", .eos_token = "</s>"}),
            "<s>[INST] Be kind.\n\n Hi  [/INST] Hello!</s>[INST] Why? [/INST]");
  const std::vector<ChatMessage> twice = {{"user", "a"}, {"user", "b"}};
  EXPECT_EQ(
      error_of([&] { rendered(kTurns, twice); }),
      "the template refuses these messages: Roles must alternate: user, assistant, user, assistant, ...");
}

// Qwen3 and Llama-3.1: tools as JSON, reasoning cut from earlier answers, the last question found from the
// end.
constexpr std::string_view kTools = R"({%- if tools %}
    {{- '<|im_start|>system\n' }}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' + content }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- if tool_call.function %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '<tool_call>\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {%- if tool_call.arguments is string %}
                {{- tool_call.arguments }}
            {%- else %}
                {{- tool_call.arguments | tojson }}
            {%- endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + ('*' if loop.index0 == ns.last_query_index else '') + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %})";

TEST(ChatTemplate, WritesToolsAndCallsAsJson) {
  const OrderedJson messages = OrderedJson::parse(R"([
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "<think>hm</think>\n\nOne moment.",
     "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "K\u00f6ln", "days": 2}}}]},
    {"role": "user", "content": "<tool_response>rain</tool_response>"}])");
  const OrderedJson tools =
      OrderedJson::parse(R"([{"type": "function", "function": {"name": "weather", "parameters": {}}}])");
  EXPECT_EQ(
      ChatTemplate(kTools, "t").render(messages, {.tools = tools, .more = {{"enable_thinking", false}}}).text,
      "<|im_start|>system\n# Tools\n<tools>\n"
      "{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"parameters\": "
      "{}}}\n</tools><|im_end|>\n"
      "<|im_start|>user\nWeather?*<|im_end|>\n"
      "<|im_start|>assistant\nOne moment.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": "
      "\"K\u00f6ln\", \"days\": 2}}\n"
      "</tool_call><|im_end|>\n"
      "<|im_start|>user\n<tool_response>rain</tool_response><|im_end|>\n"
      "<|im_start|>assistant\n<think>\n\n</think>\n\n");
  EXPECT_EQ(rendered(kTools, kShort), "<|im_start|>user\nHi*<|im_end|>\n<|im_start|>assistant\n");
}

// OLMoE, DeepSeek-V2, Phi-3: plain words, the end token between turns.
TEST(ChatTemplate, WritesPlainTurns) {
  EXPECT_EQ(
      rendered(
          "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\n' + "
          "message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n'  + "
          "message['content'] + eos_token + '\n' }}{% endif %}{% if loop.last and add_generation_prompt %}{{ "
          "'<|assistant|>\n' }}{% endif %}{% endfor %}",
          kLong, {.bos_token = "|||", .eos_token = "<e>"}),
      "|||<|user|>\n Hi \n<|assistant|>\nHello!<e>\n<|user|>\nWhy?\n<|assistant|>\n");
  EXPECT_EQ(
      rendered(
          "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ "
          "bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + "
          "message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + "
          "message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + "
          "'\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
          kLong, {.bos_token = "<b>", .eos_token = "<e>"}),
      "<b>Be kind.\n\nUser:  Hi \n\nAssistant: Hello!<e>User: Why?\n\nAssistant:");
}

TEST(ChatTemplate, ErrorsNameTheTemplateAndTheLine) {
  EXPECT_EQ(error_of([] { ChatTemplate("a\n{% if %}", "model.gguf: the chat template"); }),
            "model.gguf: the chat template: line 2: an expression was expected, not \"%}\"");
  EXPECT_EQ(error_of([&] { rendered("a\nb\n{{ bos_token + 'x' }}", kShort); }),
            "the template, line 3: \"bos_token\" is undefined");
  EXPECT_THAT(error_of([&] { rendered("{{ raise_exception('a' * 1000 + '\n') }}", kShort); }),
              EndsWith("aaa..."));
}

TEST(ChatTemplate, RendersTheSameEachTime) {
  const ChatTemplate source(kTools, "t");
  const std::string first = source.render(kLong).text;
  EXPECT_EQ(source.render(kLong).text, first);
  ChatTemplate moved = ChatTemplate(kMarked, "m");
  moved = ChatTemplate(kTools, "t");
  EXPECT_EQ(moved.render(kLong).text, first);
}

TEST(ChatTemplate, KnowsWhatCameFromTheMessages) {
  const RenderedChat chat = ChatTemplate(kMarked, "t").render(kLong);
  EXPECT_THAT(parts_from_messages(chat), ElementsAre("Be kind.", " Hi ", "Hello!", "Why?"))
      << "the roles are the caller's";
  EXPECT_EQ(chat.from_messages.front().begin, std::string_view("<|im_start|>system\n").size());
  EXPECT_THAT(ChatTemplate("<|end|>{{ bos_token }}{{ mood }}", "t")
                  .render(kShort, {.bos_token = "<s>", .more = {{"mood", "<s>"}}})
                  .from_messages,
              IsEmpty());
}

// What a template can do to a text: its parts stay known for what they are.
TEST(ChatTemplate, WhatIsMadeOfMessagesIsTheirs) {
  const struct {
    std::string_view expression;
    std::vector<std::string> parts;
  } cases[] = {
      {"'<' + text + '>'", {"<b> Hi"}},
      {"text | trim", {"<b> Hi"}},
      {"text.split(' ') | join('<|end|>')", {"<b>", "Hi"}},
      {"text[1:3] ~ '<'", {"b>"}},
      {"text[0]", {"<"}},
      {"text.replace('Hi', '<s>')", {"<b> "}},
      {"'<s>'.replace('s', text)", {"<b> Hi"}},
      {"text | upper", {"<B> HI"}},
      {"('<s>' ~ text ~ '</s>') | upper", {"<B> HI"}},
      {"(text ~ '\u0131') | upper", {"<B> HII"}},  // of another size, so theirs as a whole
      {"text | reverse", {"iH >b<"}},
      {"text * 2", {"<b> Hi<b> Hi"}},
      {"text | tojson", {"<b> Hi"}},
      {"{'a\"': text + '\"'} | tojson", {"<b> Hi"}},
      {"[text, 1]", {"<b> Hi"}},
      {"text | escape", {"&lt;b&gt; Hi"}},
      {"'[{}]'.format(text)", {"<b> Hi"}},
      {"text | list | last", {"i"}},
      {"messages[0].more | tojson", {"<k>", "a\\\"\\n\\u0001", "c"}},
      {"messages[0].more | items | list", {"<k>", "a\"\\n\\x01", "c"}},
      {"tools[0] | upper", {"<TOOL>"}},
      {"documents[0]", {"<doc>"}},
      {"messages[0].role", {}},
      {"'<b> Hi'", {}},
  };
  const OrderedJson messages =
      OrderedJson::parse(R"([{"role": "user", "content": "<b> Hi", "more": {"<k>": ["a\"\n\u0001", "c"]}}])");
  const ChatTemplateInput input = {.tools = {"<tool>"}, .more = {{"documents", {"<doc>"}}}};
  const std::string begin = "{% set text = messages[0].content %}";
  for (const auto& [expression, parts] : cases) {
    const std::string plain = begin + "{{ " + std::string(expression) + " }}";
    EXPECT_EQ(parts_from_messages(ChatTemplate(plain, "t").render(messages, input)), parts) << expression;
    const std::string captured =
        begin + "{% set kept %}<|end|>{{ " + std::string(expression) +
        " }}{% endset %}{% macro shown(x) %}{{ x }}<s>{% endmacro %}{{ shown(kept) }}";
    EXPECT_EQ(parts_from_messages(ChatTemplate(captured, "t").render(messages, input)), parts) << expression;
  }
}

}  // namespace
}  // namespace gatewright
