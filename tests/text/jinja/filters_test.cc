#include "tests/text/jinja/rendering.h"

namespace gatewright {
namespace {

TEST(JinjaFilters, ChangeTexts) {
  expect_renderings({
      {"{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ 'aB' | upper }}{{ 'aB' | lower }}", "a|a|ABab"},
      {"{{ 'hello (big) wORLD-wide' | title }} {{ 'hELLO' | capitalize }}", "Hello (Big) World-Wide Hello"},
      {"{{ 'aXbX' | replace('X', '-') }} {{ 'aXbX' | replace('X', '-', 1) }} {{ 'abc' | reverse }}",
       "a-b- a-bX cba"},
      {"{{ 'a\nb\n\nc' | indent(2) }}|{{ 'a\nb' | indent(1, true) }}|{{ 'a\n\nb' | indent(1, blank=true) }}",
       "a\n  b\n\n  c| a\n b|a\n \n b"},
      {"{{ 5 | string + 'a' }} {{ none | string }} {{ missing | trim }}|{{ '<a>' | e }} {{ '<a>' | safe }}",
       "5a None |&lt;a&gt; <a>"},
      {"{{ 'h\xC3\xA9' | length }} {{ [1, 2] | count }} {{ {'a': 1} | length }} {{ missing | length }}",
       "2 2 1 0"},
  });
}

TEST(JinjaFilters, GiveDefaults) {
  expect_renderings({
      {"{{ missing | default('x') }} {{ none | default('x') }} {{ '' | default('x', true) }} {{ 0 | d(7, "
       "boolean=true) }}",
       "x None x 7"},
      {"{{ missing | default }}|{{ a.b.c | default(1) if a is defined else 2 }}", "|2"},
  });
}

TEST(JinjaFilters, ConvertNumbers) {
  expect_renderings({
      {"{{ ' 12 ' | int }} {{ '3.9' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 'ff' | int(base=16) }} {{ "
       "3.9 | int }}",
       "12 3 0 5 255 3"},
      {"{{ '1.5' | float }} {{ 'x' | float }} {{ 2 | float }} {{ -3 | abs }} {{ -2.5 | abs }}",
       "1.5 0.0 2.0 3 2.5"},
      {"{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.675 | round(2) }} {{ 42.55 | round(1, 'floor') }} {{ 1.1 | "
       "round(0, 'ceil') }} {{ 7 | round }}",
       "2.0 4.0 2.67 42.5 2.0 7"},
  });
}

TEST(JinjaFilters, WriteJsonAsPythonDoes) {
  const OrderedJson variables = {{"v",
                                  {{"b", {1, 2.5, nullptr, true}},
                                   {"a", "x\"y\\\n\t\u0001\u00e9"},
                                   {"e", OrderedJson::array()},
                                   {"o", OrderedJson::object()}}}};
  expect_renderings(
      {
          {"{{ v | tojson }}",
           "{\"b\": [1, 2.5, null, true], \"a\": \"x\\\"y\\\\\\n\\t\\u0001\xC3\xA9\", \"e\": [], \"o\": {}}"},
          {"{{ v | tojson(ensure_ascii=true) }}",
           "{\"b\": [1, 2.5, null, true], \"a\": \"x\\\"y\\\\\\n\\t\\u0001\\u00e9\", \"e\": [], \"o\": {}}"},
          {"{{ {'b': [1], 'a': {}} | tojson(indent=2) }}", "{\n  \"b\": [\n    1\n  ],\n  \"a\": {}\n}"},
          {"{{ {'b': [1, 2], 'a': 1} | tojson(separators=(',', ':'), sort_keys=true) }}",
           "{\"a\":1,\"b\":[1,2]}"},
          {"{{ {10: 1, 9: 2, none: {true: 1.5}} | tojson }} {{ {10: 1, 9: 2, 0.5: 3} | "
           "tojson(sort_keys=true) }}",
           "{\"10\": 1, \"9\": 2, \"null\": {\"true\": 1.5}} {\"0.5\": 3, \"9\": 2, \"10\": 1}"},
          {"{{ '</a>' | tojson }} {{ 1e20 | tojson }} {{ '\xF0\x9F\x98\x80' | tojson(true) }}",
           "\"</a>\" 1e+20 \"\\ud83d\\ude00\""},
      },
      variables);
}

TEST(JinjaFilters, ChooseFromLists) {
  const OrderedJson variables = {{"all",
                                  {{{"role", "system"}, {"n", 3}},
                                   {{"role", "user"}, {"n", 1}, {"x", true}},
                                   {{"role", "user"}, {"n", 2}}}}};
  expect_renderings(
      {
          {"{{ all | selectattr('role', 'equalto', 'user') | map(attribute='n') | list }}", "[1, 2]"},
          {"{{ all | rejectattr('role', '==', 'user') | map(attribute='n') | join }}", "3"},
          {"{{ all | selectattr('x') | list | length }} {{ all | rejectattr('x', 'defined') | list | length "
           "}}",
           "1 2"},
          {"{{ (all | selectattr('role', 'in', ['system']) | first).n }} {{ all | map(attribute='x', "
           "default=0) | list }}",
           "3 [0, True, 0]"},
          {"{{ all | sort(attribute='n') | map(attribute='n') | list }} {{ all | map(attribute='n') | sum }} "
           "{{ all | sum('n', 10) }}",
           "[1, 2, 3] 6 16"},
          {"{{ none | selectattr('a') }} {{ none | map('upper') }} {{ missing | reject('odd') }}",
           "[] [] []"},
          {"{{ [1, 0, 2] | select | list }} {{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | "
           "reject('gt', 1) | list }}",
           "[1, 2] [1, 3] [1]"},
          {"{{ ['a', 'b'] | map('upper') | join('-') }} {{ ['a b', 'c d'] | map('replace', ' ', '') | list "
           "}}",
           "A-B ['ab', 'cd']"},
      },
      variables);
}

TEST(JinjaFilters, OrderAndJoin) {
  expect_renderings({
      {"{{ [3, 1, 2] | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ ['b', 'A', 'c'] | sort }} {{ ['b', "
       "'A'] | sort(case_sensitive=true) }}",
       "[1, 2, 3] [3, 2, 1] ['A', 'b', 'c'] ['A', 'b']"},
      {"{{ ['a', 'b', 'A', 'b'] | unique | list }} {{ [1, 2] | reverse | list }} {{ [3, 1] | min }}{{ [3, 1] "
       "| max }}",
       "['a', 'b'] [2, 1] 13"},
      {"{{ [1, 2] | first }}{{ [1, 2] | last }}{{ [] | first }} {{ 'abc' | first }}{{ 'abc' | last }} {{ "
       "'ab' | list }}",
       "12 ac ['a', 'b']"},
      {"{{ [1, none, 'a'] | join(', ') }} {{ {'a': 1, 'b': 2} | items | list }} {{ {'b': 1, 'a': 2} | "
       "dictsort }}",
       "1, None, a [('a', 1), ('b', 2)] [('a', 2), ('b', 1)]"},
      {"{{ {'a': 3, 'b': 2} | dictsort(by='value') | map('first') | join }} {{ {'a': 1} | attr('keys') is "
       "callable }}",
       "ba True"},
      {"{{ {512: 'b', 0: 'a', 16384: 'c'} | dictsort }}", "[(0, 'a'), (512, 'b'), (16384, 'c')]"},
  });
}

TEST(JinjaFilters, UnknownOnesAndWrongUseAreRefused) {
  expect_errors({
      {"a\n{{ 'x' | uper }}", "t, line 2: there is no filter \"uper\", did you mean 'upper'?"},
      {"{{ 'x' is strin }}", "there is no test \"strin\", did you mean 'string'?"},
      {"{{ [1] | map('uper') }}", "there is no filter \"uper\""},
      {"{{ [1] | select('od') }}", "there is no test \"od\""},
      {"{{ 5 | length }}", "there are no elements in integer"},
      {"{{ {1: 2, 'a': 3} | tojson(sort_keys=true) }}", "have no order"},
      {"{{ missing | tojson }}", "undefined can't be written as JSON"},
      {"{{ range | tojson }}", "function can't be written as JSON"},
      {"{{ 1 | items }}", "a mapping was expected, not integer"},
      {"{{ 'a' | replace('b') }}", "needs the argument \"new\""},
      {"{{ 'a' | trim(x=1) }}", "takes no argument \"x\""},
      {"{{ 1 | tojson(indent=1000000) }}", "more than 100"},
      {"{{ 1.5 | round(99) }}", "a precision of 0 to 20 was expected"},
      {"{{ 1.5 | round(1, 'x') }}", "is none of common, ceil, floor"},
      {"{{ 'a' | abs }}", "a number was expected"},
      {"{{ [1] | map(5) }}", "the name of a filter is a text"},
      {"{{ [1] | selectattr }}", "need the name of an attribute"},
      {"{{ [1, 'a'] | sort }}", "have no order"},
      {"{{ 1 is divisibleby 0 }}", "division by zero"},
      {"{{ 'a' | int(base=99) }}", "the base must be 2 to 36"},
  });
}

}  // namespace
}  // namespace gatewright
