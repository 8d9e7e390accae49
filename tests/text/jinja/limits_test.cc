// Templates that would not end, or would fill the memory: each ends in one error, soon.
#include "tests/text/jinja/rendering.h"

namespace gatewright {
namespace {

using testing::HasSubstr;

std::string repeated(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

TEST(JinjaLimits, LoopsThatDoNotEnd) {
  const std::string nine = repeated("{% for i in range(1000) %}", 9) + repeated("{% endfor %}", 9);
  EXPECT_THAT(error_of([&] { rendered(nine); }), HasSubstr("does not end within 10000000 steps"));
  expect_errors({
      {"{% for i in range(10**9) %}{% endfor %}", "does not end within"},
      {"{% for i in range(9223372036854775807) %}{% endfor %}", "does not end within"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested more than 200 deep"},
      {"{% macro m() %}{% for i in range(99) %}{{ m() }}{% endfor %}{% endmacro %}{{ m() }}",
       "nested more than 200 deep"},
  });
}

TEST(JinjaLimits, TextsThatGrow) {
  expect_errors({
      {"{{ 'abcd' * 10**9 }}", "more than 268435456 bytes"},
      {"{{ 'abcd' * 9223372036854775807 }}", "more than 268435456 bytes"},
      {"{{ [1, 2] * 9223372036854775807 }}", "more than 268435456 bytes"},
      {"{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% "
       "endfor %}",
       "more than 268435456 bytes"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
       "more than 268435456 bytes"},
      {"{% set x = 'a' * 1000000 %}{% for i in range(999) %}{{ x }}{% endfor %}",
       "writes more than 33554432 bytes"},
      {"{% set x = 'a' * 100000 %}{{ x.replace('', x) }}", "more than 268435456 bytes"},
      {"{{ 'a' | indent(10**12) }}", "more than 268435456 bytes"},
      {"{% set x = '<' * 60000000 %}{{ x | e }}", "more than 268435456 bytes"},
      {"{% set x = 'a ' * 10000000 %}{{ x.split() }}", "more than 268435456 bytes"},
      {"{% set x = '\\n' * 20000000 %}{{ x.splitlines() }}", "more than 268435456 bytes"},
  });
}

TEST(JinjaLimits, SearchesThatTakeLong) {
  expect_errors({
      {"{% set a = 'a' * 4000000 %}{% set b = 'a' * 2000000 + 'b' %}{{ b in a }}", "does not end within"},
      {"{% set a = 'a' * 4000000 %}{% set b = 'a' * 2000000 + 'b' %}{{ a.split(b) }}", "does not end within"},
      {"{% set a = range(5000) | list %}{{ a | unique }}", "does not end within"},
  });
}

TEST(JinjaLimits, DeepNesting) {
  const auto error = [](const std::string& source) { return error_of([&] { rendered(source); }); };
  for (const std::string_view open : {"(", "[", "-", "not ", "{'a':", "f("})
    EXPECT_THAT(error("{{ " + repeated(open, 20'000) + "1 }}"),
                testing::AnyOf(HasSubstr("100 deep"), HasSubstr("} stands where"), HasSubstr("not closed")));
  EXPECT_THAT(error("{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}"),
              HasSubstr("nested more than 100 deep"));
  EXPECT_THAT(error("{{ " + repeated("-", 5000) + "1 }}"), HasSubstr("nested more than 100 deep"));
  EXPECT_THAT(error(repeated("{% if 1 %}", 5000) + repeated("{% endif %}", 5000)),
              HasSubstr("nested more than 100 deep"));
  EXPECT_THAT(error("{{ 1" + repeated(" + 1", 50'000) + " }}"), HasSubstr("nested more than 200 deep"));
  EXPECT_THAT(error("{{ a" + repeated(".b", 50'000) + " }}"), HasSubstr("nested more than 200 deep"));
  EXPECT_THAT(error("{{ 1" + repeated(" | string", 20'000) + " }}"), HasSubstr("nested more than 200 deep"));
  EXPECT_EQ(rendered("{{ 1" + repeated(" + 1", 100) + " }}"), "101");
}

TEST(JinjaLimits, ValuesThatHoldThemselves) {
  const std::string_view set = "{% set x = [] %}{% set _ = x.append(x) %}";
  for (const std::string_view use : {"{{ x }}", "{{ x == [x] }}", "{{ x | tojson }}", "{{ x < [x] }}"})
    EXPECT_THAT(error_of([&] { rendered(std::string(set) + std::string(use)); }),
                HasSubstr("nested more than 200 deep"))
        << use;
}

TEST(JinjaLimits, InputThatIsTooMuch) {
  EXPECT_THAT(error_of([] { rendered(std::string(300'000, 'a')); }),
              HasSubstr("it has 300000 bytes, more than 262144"));
  OrderedJson deep = 1;
  for (int i = 0; i < 1000; ++i) deep = OrderedJson::array({deep});
  EXPECT_THAT(error_of([&] { rendered("{{ x }}", {{"x", deep}}); }), HasSubstr("nested more than 200 deep"));
  EXPECT_THAT(error_of([] { rendered("{{ x }}", {{"x", UINT64_MAX}}); }), HasSubstr("does not fit 64 bits"));
  EXPECT_THAT(error_of([] { rendered("{{ strftime_now('%Y' * 200) }}"); }),
              HasSubstr("longer than 256 bytes"));
}

TEST(JinjaLimits, CanBeNarrowed) {
  EXPECT_THAT(error_of([] { rendered("{{ 'aaaaaaaaaaaa' }}", OrderedJson::object(), {.output_bytes = 10}); }),
              HasSubstr("writes more than 10 bytes"));
  EXPECT_THAT(error_of([] { rendered("{{ 1 }}{{ 2 }}{{ 3 }}{{ 4 }}", OrderedJson::object(), {.steps = 9}); }),
              HasSubstr("does not end within 9 steps"));
}

}  // namespace
}  // namespace gatewright
