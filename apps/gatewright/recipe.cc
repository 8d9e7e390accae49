#include <fmt/format.h>

#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/base/json.h"
#include "gatewright/base/nearest.h"
#include "gatewright/report/table.h"
#include "recipes.h"

namespace gatewright::command {
namespace {

/// The first sentence of the comment at a recipe's top.
std::string summary(std::string_view text) {
  std::string words;
  while (text.starts_with("#")) {
    const size_t end = text.find('\n');
    words += std::string(text.substr(1, end - 1));
    text.remove_prefix(end + 1);
  }
  const size_t colon = words.find(": "), stop = words.find(". ");
  return words.substr(colon + 2, stop == std::string::npos ? stop : stop - colon - 1);
}

void list_recipes(bool as_json) {
  if (as_json) {
    OrderedJson list = OrderedJson::array();
    for (const StartingRecipe& r : starting_recipes())
      list.push_back({{"name", r.name}, {"summary", summary(r.text)}});
    return print(list.dump(2) + "\n");
  }
  TextTable table({"", ""});
  for (const StartingRecipe& r : starting_recipes()) table.add({std::string(r.name), summary(r.text)});
  print(table.text());
}

void print_recipe(const std::string& name, bool as_json) {
  if (const StartingRecipe* recipe = find_recipe(name))
    return print(as_json ? OrderedJson({{"name", name}, {"text", recipe->text}}).dump(2) + "\n"
                         : std::string(recipe->text));
  std::vector<std::string> names;
  for (const StartingRecipe& r : starting_recipes()) names.emplace_back(r.name);
  fail_usage("there is no recipe '{}'{}", name.substr(0, 80), did_you_mean(name, names));
}

}  // namespace

void add_recipe(Options& verb) {
  struct Arguments {
    std::string name;
    bool json = false;
  };
  const auto o = std::make_shared<Arguments>();
  verb.add("NAME", o->name, "the recipe to print; without it all are listed");
  verb.flag("--json", o->json, "print JSON");
  verb.run([o] { o->name.empty() ? list_recipes(o->json) : print_recipe(o->name, o->json); });
}

}  // namespace gatewright::command
