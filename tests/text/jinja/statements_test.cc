#include "tests/text/jinja/rendering.h"

namespace gatewright {
namespace {

TEST(JinjaStatements, WhiteSpaceGoesAsTransformersHasIt) {
  expect_renderings({
      {"a\n{% if 1 %}\nb\n{% endif %}\nc\n", "a\nb\nc"},  // the newline after a block, and the last one
      {"a\n   {% if 1 %}b{% endif %}", "a\nb"},           // spaces before a block that begins its line
      {"a\n  x {% if 1 %}b{% endif %}", "a\n  x b"},
      {"  {{ 1 }}\n{{ 2 }}", "  1\n2"},  // an expression keeps both
      {"a  \n\t{%- if 1 -%}  \n b  {%- endif %}", "ab"},
      {"a {{- 1 -}} b", "a1b"},
      {"  {%+ if 1 %}a{% endif %}", "  a"},
      {"{% if 1 +%}\na{% endif %}", "\na"},
      {"a\n  {# note #}\nb {#- x -#} c", "a\nbc"},
      {"a\r\nb\rc", "a\nb\nc"},
      {"{% raw %}{{ a }} {% if %}{% endraw %}|", "{{ a }} {% if %}|"},
      {"a {%- raw -%} {{ x }} {%- endraw -%} b", "a{{ x }}b"},
      {"{# {{ #}{{ '#}' }}", "#}"},
      {"{ {a} { % }", "{ {a} { % }"},
  });
}

TEST(JinjaStatements, BranchesAreTakenInOrder) {
  const std::string_view source = "{% if x > 2 %}a{% elif x > 1 %}b{% else %}c{% endif %}";
  EXPECT_EQ(rendered(source, {{"x", 3}}), "a");
  EXPECT_EQ(rendered(source, {{"x", 2}}), "b");
  EXPECT_EQ(rendered(source, {{"x", 1}}), "c");
}

TEST(JinjaStatements, LoopsTellWhereTheyAre) {
  expect_renderings({
      {"{% for i in [5, 6, 7] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }} {% "
       "endfor %}",
       "1032 2121 3210 "},
      {"{% for i in 'abc' %}{{ i }}{{ ',' if not loop.last }}{{ loop.first }}{% endfor %}",
       "a,Trueb,FalsecFalse"},
      {"{% for i in [1, 2] %}{{ loop.length }}{{ loop.previtem is defined }}{{ loop.nextitem }};{% endfor %}",
       "2False2;2True;"},
      {"{% for i in [] %}a{% else %}b{% endfor %}{% for i in missing %}a{% endfor %}", "b"},
      {"{% for i in range(6) if i % 2 %}{{ loop.index }}:{{ i }} {% endfor %}", "1:1 2:3 3:5 "},
      {"{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }} {% endfor %}", "12 34 "},
      {"{% for k in {'x': 1, 'y': 2} %}{{ k }}{% endfor %}", "xy"},
      {"{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif "
       "%}{{ i }}{% endfor %}",
       "02"},
      {"{% for i in range(3) %}{% for j in range(i) %}{{ loop.depth }}{{ i }}{{ j }} {% endfor %}{% endfor "
       "%}",
       "210 220 221 "},
      {"{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{% endfor %}", "aba"},
      {"{{ range(3) | list }} {{ range(2, 8, 3) | list }} {{ range(3, 0, -1) | list }}",
       "[0, 1, 2] [2, 5] [3, 2, 1]"},
  });
}

TEST(JinjaStatements, VariablesStayInTheirBlocks) {
  expect_renderings({
      {"{% set x = 1 %}{% for i in range(2) %}{{ x }}{% set x = x + 5 %}{{ x }} {% endfor %}{{ x }}",
       "16 16 1"},
      {"{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "2"},
      {"{% set ns = namespace(n=0, s='') %}{% for i in range(3) %}{% set ns.n = ns.n + i %}{% endfor %}{{ "
       "ns.n }}",
       "3"},
      {"{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}", "12(1, 2)"},
      {"{% set x %}a{{ 1 }}{% endset %}[{{ x }}]{% set x | upper | trim %} b {% endset %}[{{ x }}]",
       "[a1][B]"},
      {"{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "1"},
      {"{% filter upper %}a{{ 'b' }}{% endfilter %}c", "ABc"},
      {"{% generation %}a{% endgeneration %}b", "ab"},
      {"{% set x = [] %}{% set _ = x.append(3) %}{{ x }}", "[3]"},
      {"{{ dict(a=1, b='c') }} {{ namespace(a=1).a }}", "{'a': 1, 'b': 'c'} 1"},
  });
}

TEST(JinjaStatements, MacrosTakeArgumentsAndSeeTheTopLevel) {
  expect_renderings({
      {"{% macro m(a, b='x', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, "
       "c=3) }}{{ m() }}",
       "[1xNone][12None][1x3][xNone]"},
      {"{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "3210"},
      {"{% set g = 1 %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 2 %}{% for i in [1] %}{{ m() }}{% "
       "endfor %}",
       "2"},
      {"{% macro m(x) %} {{ x }} {% endmacro %}{{ m('a') | trim }}{{ m('b') ~ '.' }}", "a b ."},
  });
  expect_errors({
      {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "the macro \"m\" takes at most 1 arguments, not 2"},
      {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "the macro \"m\" takes no argument \"b\""},
      {"{% for i in [1] %}{% macro m() %}{% endmacro %}{% endfor %}", "stands in a loop"},
  });
}

TEST(JinjaStatements, WhatIsNotKnownOrNotClosedIsRefused) {
  expect_errors({
      {"a\n{% include 'x' %}", "t: line 2: the tag \"include\" is not known here"},
      {"{% if 1 %}a", "the template ends where {% endif %} was expected"},
      {"{% for i in [1] %}a", "{% endfor %} was expected"},
      {"{% endif %}", "the tag \"endif\" is not known here"},
      {"{% if 1 %}{% endfor %}", "the tag \"endfor\" is not known here"},
      {"{% for i in [1] recursive %}{% endfor %}", "recursive loops are not supported"},
      {"{% for x in 1, %}{{ x }}{% endfor %}{% for x of y %}", "in was expected"},
      {"{% break %}", "break stands in no loop"},
      {"{% for i in [1] %}{% set x %}{% continue %}{% endset %}{% endfor %}", "continue stands in no loop"},
      {"{% set true = 1 %}", "true can't be assigned"},
      {"{% set a.b = 1 %}", "is no namespace"},
      {"{% set a = 1 %}{% set a.b = 1 %}", "is no namespace"},
      {"{% for a, b in [1] %}{% endfor %}", "there are no elements in integer"},
      {"{% for a, b in [[1]] %}{% endfor %}", "1 values can't be given to 2 names"},
      {"{# a", "the comment is not closed"},
      {"{% raw %}a", "not closed by {% endraw %}"},
      {"{% if 1 %}{{ 2 }}{% endif x %}", "%} was expected"},
      {"{% %}", "the name of a tag was expected"},
  });
}

}  // namespace
}  // namespace gatewright
