#include "tests/text/jinja/rendering.h"

namespace gatewright {
namespace {

TEST(JinjaExpressions, PrintValuesAsPythonDoes) {
  expect_renderings({
      {"{{ true }} {{ False }} {{ none }} {{ 12 }} {{ -3 }}", "True False None 12 -3"},
      {"{{ 1.0 }} {{ 0.1 }} {{ 1e16 }} {{ 1.5e-7 }} {{ 123456789.25 }} {{ 1e5 }}",
       "1.0 0.1 1e+16 1.5e-07 123456789.25 100000.0"},
      {"{{ [1, 'a', none, [2.5]] }} {{ (1,) }} {{ (1, 2) }} {{ () }}",
       "[1, 'a', None, [2.5]] (1,) (1, 2) ()"},
      {"{{ {'a': 1, 'b': {'c': true}} }}", "{'a': 1, 'b': {'c': True}}"},
      {R"({{ ["it's", 'say "x"', "both ' and \"", "a\nb\\c\t"] }})",
       R"(["it's", 'say "x"', 'both \' and "', 'a\nb\\c\t'])"},
      {"{{ missing }}|{{ none.missing }}|{{ {}.missing }}|{{ 'abc'.missing }}", "|||"},
  });
}

TEST(JinjaExpressions, ReadLiterals) {
  expect_renderings({
      {R"({{ 'a\tb\'c\\' }}|{{ "\x41\u00e9\U0001F600\101" }}|{{ 'a\qb' }})",
       "a\tb'c\\|A\xC3\xA9\xF0\x9F\x98\x80"
       "A|a\\qb"},
      {"{{ 'a' 'b' \"c\" }}", "abc"},
      {"{{ 1_000 + 1 }} {{ 1_0.5 }}", "1001 10.5"},
      {"{{ {'}}': '%}'}['}}'] }}", "%}"},
  });
}

TEST(JinjaExpressions, CalculateByPythonsRules) {
  expect_renderings({
      {"{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 % 2 }}",
       "3 -4 -4 2 -2 0.5"},
      {"{{ 7 / 2 }} {{ 8 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2.0 ** 0.5 > 1.41 }}",
       "3.5 4.0 1024 0.5 True"},
      {"{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 2 * 3 ** 2 }} {{ -2 ** 2 }} {{ 10 - 2 - 3 }}", "7 9 18 4 5"},
      {"{{ 'ab' * 3 }} {{ 2 * [1] }} {{ 'a' + 'b' }} {{ [1] + [2] }} {{ 'x' * -1 }}",
       "ababab [1, 1] ab [1, 2] "},
      {"{{ 1 ~ 'a' ~ none ~ missing ~ 2.0 }} {{ 'x' + 2 ~ 3 }}", "1aNone2.0 x23"},
      {"{{ true + true }} {{ +3 }} {{ - 3 + 5 }}", "2 3 2"},
  });
}

TEST(JinjaExpressions, CompareAndCombine) {
  expect_renderings({
      {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 == true }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}",
       "True False True True True"},
      {"{{ 2 in [1, 2] }} {{ 'b' not in 'abc' }} {{ 'k' in {'k': 1} }} {{ 'x' in missing }} {{ '' in '' }}",
       "True False True False True"},
      {"{{ 0 or 'x' }} {{ 1 and [] }} {{ not '' }} {{ not 1 == 2 }} {{ none or missing or 3 }}",
       "x [] True True 3"},
      {"{{ 'y' if 1 else 'n' }} {{ 'y' if 0 }}| {{ 'a' if 0 else 'b' if 0 else 'c' }}", "y | c"},
      {"{{ 1 == '1' }} {{ none == none }} {{ [1] == (1,) }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }}",
       "False True False True"},
      {"{{ 1 if true is true and false is not true }}", "1"},
  });
}

TEST(JinjaExpressions, TakeParts) {
  const OrderedJson variables = {{"m", {{"role", "user"}, {"items", 5}, {"list", {1, 2, 3}}}},
                                 {"t", "h\u00e9llo"}};
  expect_renderings(
      {
          {"{{ m.role }} {{ m['role'] }} {{ m.list[0] }} {{ m.list[-1] }} {{ m.list.1 }} {{ m.list[9] }}|",
           "user user 1 3 2 |"},
          {"{{ m['items'] }} {{ m.get('items') }} {{ m.get('x') }} {{ m.get('x', 7) }}", "5 5 None 7"},
          {"{{ t[1] }} {{ t[-1] }} {{ t[1:3] }} {{ t[::-1] }} {{ t[:-1] }} {{ t[::2] }} {{ t[10:] }}|",
           "\u00e9 o \u00e9l oll\u00e9h h\u00e9ll hlo |"},
          {"{{ m.list[1:] }} {{ m.list[:-1] }} {{ m.list[::-1] }} {{ m.list[-2:] }} {{ m.list[2:0:-1] }} {{ "
           "(1,2,3)[1:] }}",
           "[2, 3] [1, 2] [3, 2, 1] [2, 3] [3, 2] (2, 3)"},
          {"{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}", "role=user;items=5;list=[1, 2, 3];"},
          {"{{ m.keys() | list }} {{ m.values() | list | length }}", "['role', 'items', 'list'] 3"},
      },
      variables);
}

TEST(JinjaExpressions, MappingsHaveNumbersBooleansAndNoneAsKeys) {
  expect_renderings({
      {"{{ {1: 'a', 1.5: 'b', none: 'c', 'x': 'd'} }}", "{1: 'a', 1.5: 'b', None: 'c', 'x': 'd'}"},
      {"{% set m = {0: 'a', 512: 'b', none: 'c'} %}{{ m[512] }} {{ m.get(0) }} {{ m[none] }} {{ m[1] }}| {{ "
       "m.get('512', 7) }}",
       "b a c | 7"},
      {"{% set m = {3: 'a', 'b': 1} %}{{ 3 in m }} {{ '3' in m }} {{ m | list }} {{ m == {'b': 1, 3: 'a'} }}",
       "True False [3, 'b'] True"},
      {"{{ {1: 'a', true: 'b', 1.0: 'c'} }} {{ {1: 'a'}[true] }} {{ dict({2: 3}, a=1) }}",
       "{1: 'c'} a {2: 3, 'a': 1}"},
      {"{% for k, v in {2: 'x', 1: 'y'}.items() if k > 1 %}{{ k + 1 }}{{ v }}{% endfor %}", "3x"},
  });
}

TEST(JinjaExpressions, CallMethodsOfTexts) {
  expect_renderings({
      {"{{ '  a '.strip() }}|{{ '  a '.lstrip() }}|{{ '  a '.rstrip() }}|{{ 'xxaxy'.strip('xy') }}",
       "a|a |  a|a"},
      {"{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ 'a b c'.split(none, "
       "1) }}",
       "['a', 'b', '', 'c'] ['a', 'b'] ['a', 'b c'] ['a', 'b c']"},
      {"{{ 'a b c'.rsplit(' ', 1) }} {{ '</think>x</think>y'.split('</think>')[-1] }} {{ ' a b "
       "'.rsplit(none, 1) }} {{ ' a b '.split(none, 1) }}",
       "['a b', 'c'] y [' a', 'b'] ['a', 'b ']"},
      {"{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.startswith('b') }}",
       "True True False"},
      {"{{ 'aBc'.upper() }} {{ 'aBc'.lower() }} {{ 'hello wORLD'.title() }} {{ 'hELLO'.capitalize() }}",
       "ABC abc Hello World Hello"},
      {"{{ 'a-b-c'.replace('-', '+') }} {{ 'a-b-c'.replace('-', '+', 1) }} {{ 'ab'.replace('', '.') }}",
       "a+b+c a+b-c .a.b."},
      {"{{ ', '.join(['a', 'b']) }} {{ 'abcb'.find('b') }} {{ 'abcb'.rfind('b') }} {{ 'x'.find('y') }} {{ "
       "'abab'.count('ab') }}",
       "a, b 1 3 -1 2"},
      {"{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ '12'.isdigit() }} {{ 'aB'.isalpha() "
       "}}",
       "bc ab True True"},
      {"{{ 'a\\nb\\r\\nc\\n'.splitlines() }} {{ '\xC3\xA9t\xC3\xA9'.upper() }}",
       "['a', 'b', 'c'] \xC3\x89T\xC3\x89"},
  });
}

TEST(JinjaExpressions, FormatTexts) {
  expect_renderings({
      {"{{ '<{}|{}>'.format(1, 'b') }} {{ '{1}{0}{{}}'.format('a', 'b') }} {{ '{x}'.format(x=none) }}",
       "<1|b> ba{} None"},
  });
  expect_errors({
      {"{{ '{}{}'.format(1) }}", "format: there is no argument for \"\""},
      {"{{ '{:.2f}'.format(1) }}", "there is no argument for \":.2f\""},
      {"{{ '{'.format(1) }}", "a brace has no partner"},
      {"{{ '}x'.format(1) }}", "a brace has no partner"},
  });
}

TEST(JinjaExpressions, AskWithTests) {
  expect_renderings(
      {
          {"{{ x is defined }} {{ y is defined }} {{ y is undefined }} {{ y is not defined }}",
           "True False True True"},
          {"{{ none is none }} {{ 'a' is string }} {{ 1 is string }} {{ {} is mapping }} {{ [] is mapping }}",
           "True True False True False"},
          {"{{ [] is iterable }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ [] is sequence }}",
           "True True False True"},
          {"{{ 1 is number }} {{ 1.5 is float }} {{ 1 is integer }} {{ true is integer }} {{ true is boolean "
           "}}",
           "True True True False True"},
          {"{{ true is true }} {{ 1 is true }} {{ false is false }} {{ 0 is false }}",
           "True False True False"},
          {"{{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby 3 }} {{ 2 is in [1, 2] }} {{ 'a' is equalto "
           "'a' }}",
           "True False True True True"},
          {"{{ 2 is gt 1 }} {{ 2 is lessthan(1) }} {{ 'AB' is upper }} {{ 1 is sameas 1 }} {{ 1 is sameas "
           "true }}",
           "True False True True False"},
          {"{{ x is defined and x is string or y is defined }}", "True"},
      },
      {{"x", "text"}});
}

TEST(JinjaExpressions, RefuseWhatHasNoMeaning) {
  expect_errors({
      {"a\n\n{{ 1 + 'a' }}", "t, line 3: integer + text has no meaning"},
      {"{{ missing + 'a' }}", "\"missing\" is undefined"},
      {"{{ missing.a }}", "\"missing\" is undefined"},
      {"{{ 'abc'.frobnicate() }}", "there is no function \"frobnicate\""},
      {"{{ frobnicate(1) }}", "there is no function \"frobnicate\""},
      {"{{ 1 // 0 }}", "division by zero"},
      {"{{ 1 % 0 }}", "division by zero"},
      {"{{ 1 / 0 }}", "division by zero"},
      {"{{ 9223372036854775807 + 1 }}", "does not fit 64 bits"},
      {"{{ (-9223372036854775807 - 1) // -1 }}", "does not fit 64 bits"},
      {"{{ 99999999999999999999 }}", "too large"},
      {"{{ [1] < ['a'] }}", "integer and text have no order"},
      {"{{ 1 in 'a' }}", "only a text can be in a text"},
      {"{{ 5[0:1] }}", "integer can't be sliced"},
      {"{{ 'a'[::0] }}", "the step of a slice can't be 0"},
      {"{{ 'a'() }}", "text can't be called"},
      {"{{ {[1]: 2} }}", "a key of a mapping is a text, a number, a boolean or none, not list"},
      {"{{ 'a'.split('') }}", "empty separator"},
      {"{{ 'a'.strip(1, 2) }}", "takes at most 1 arguments"},
      {"{{ range }}", "is a function"},
      {"{{ f(*[1]) }}", "not supported"},
  });
}

TEST(JinjaExpressions, RefuseBrokenSyntaxWithItsLine) {
  expect_errors({
      {"a\n{{ 1 +", "line 2: the tag is not closed by }}"},
      {"{{ }}", "an expression was expected"},
      {"{{ 1 2 }}", "}} was expected, not \"2\""},
      {"{{ (1 }}", "} stands where ) was expected"},
      {"{{ 1) }}", ") closes nothing"},
      {"{{ 'a }}", "does not end"},
      {"{{ '\\xZZ' }}", "needs 2 hexadecimal digits"},
      {"{{ '\\ud800' }}", "names no character"},
      {"{{ $ }}", "\"$\" has no meaning"},
      {"{{ a | }}", "the name of a filter was expected"},
      {"{{ a is }}", "the name of a test was expected"},
      {"{{ a. }}", "the name of an attribute was expected"},
      {"{{ f(a=1, 2) }}", "without a name follows"},
  });
}

}  // namespace
}  // namespace gatewright
