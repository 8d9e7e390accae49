// gatewright list and gatewright explain: from the catalogue that was compiled in.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "catalogue.h"
#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/base/nearest.h"
#include "gatewright/report/table.h"
#include "gatewright/report/terminal.h"

namespace gatewright::command {
namespace {

OrderedJson catalogue() { return OrderedJson::parse(catalogue_text()); }

std::vector<std::string> kinds(const OrderedJson& all) {
  std::vector<std::string> names;
  for (const auto& [kind, entries] : all.items()) names.push_back(kind);
  return names;
}

/// "selector" and "selectors" mean the same kind.
bool same_kind(const std::string& kind, const std::string& asked) {
  return kind == asked || kind == asked + "s" || kind + "s" == asked;
}

/// The kind that was asked for; fails when there is none.
std::string kind_of(const OrderedJson& all, const std::string& asked) {
  const std::vector<std::string> names = kinds(all);
  const auto it =
      std::ranges::find_if(names, [&](const std::string& kind) { return same_kind(kind, asked); });
  if (it == names.end())
    fail_usage("there is no kind '{}'{}", asked.substr(0, 80), did_you_mean(asked, names));
  return *it;
}

std::string bold(const std::string& text) {
  return use_colour(Output::kStandard) ? "\x1b[1m" + text + "\x1b[0m" : text;
}

std::string text_of(const OrderedJson& entry, const char* key) { return entry.value(key, std::string()); }

void print_kind(const std::string& kind, const OrderedJson& entries) {
  TextTable table({"", "", ""});
  for (const OrderedJson& e : entries)
    table.add({text_of(e, "name"), text_of(e, "summary"), text_of(e, "source")});
  print(bold(kind) + "\n" + table.text(2) + "\n");
}

/// "scorers" is the kind of a scorer.
std::string one_of_kind(const std::string& kind) {
  if (kind == "balance") return "balance term";
  if (kind == "experts") return "expert bank";
  if (kind == "models") return "model preset";
  if (kind == "recipe") return "table of a recipe";
  return kind.substr(0, kind.size() - 1);
}

/// The tables of a recipe, indented.
std::string as_toml(const OrderedJson& table, const std::string& path = "") {
  std::string keys, tables;
  for (const auto& [key, value] : table.items()) {
    if (value.is_object())
      tables += as_toml(value, path.empty() ? key : path + "." + key);
    else
      keys += fmt::format("  {} = {}\n", key, value.dump());
  }
  return (keys.empty() ? "" : fmt::format("  [{}]\n{}", path, keys)) + tables;
}

struct ListOptions {
  std::string kind;
  bool json = false;
};

void list(const ListOptions& options) {
  OrderedJson all = catalogue();
  if (!options.kind.empty()) {
    const std::string kind = kind_of(all, options.kind);
    all = {{kind, all[kind]}};
  }
  if (options.json) return print(all.dump(2) + "\n");
  for (const auto& [kind, entries] : all.items()) print_kind(kind, entries);
}

struct Found {
  std::string kind;
  OrderedJson entry;
};

std::vector<Found> find(const OrderedJson& all, const std::string& asked) {
  const size_t colon = asked.find(':');
  const std::string kind = colon == std::string::npos ? "" : kind_of(all, asked.substr(0, colon));
  const std::string name = colon == std::string::npos ? asked : asked.substr(colon + 1);
  std::vector<Found> found;
  std::vector<std::string> names;
  for (const auto& [k, entries] : all.items()) {
    if (!kind.empty() && k != kind) continue;
    for (const OrderedJson& e : entries) {
      names.push_back(text_of(e, "name"));
      if (names.back() == name) found.push_back({k, e});
    }
  }
  if (found.empty())
    fail_usage("there is no '{}'{}\n`gatewright list` shows everything that has a name", asked.substr(0, 80),
               did_you_mean(name, names));
  return found;
}

/// A row whose long cells go on in the next line.
void add_broken(TextTable& table, const std::vector<std::string>& cells) {
  constexpr size_t kWidth = 48;
  std::vector<std::vector<std::string>> rows;
  for (size_t c = 0; c < cells.size(); ++c) {
    std::istringstream lines(wrapped(cells[c], kWidth, 0));
    size_t r = 0;
    for (std::string line; std::getline(lines, line); ++r) {
      if (r == rows.size()) rows.emplace_back(cells.size());
      rows[r][c] = line;
    }
  }
  for (std::vector<std::string>& row : rows) table.add(std::move(row));
}

/// The entry, or a list when several have the name; each with its kind.
OrderedJson as_json(const std::vector<Found>& found) {
  OrderedJson list = OrderedJson::array();
  for (const Found& f : found) {
    OrderedJson entry = {{"kind", f.kind}};
    entry.update(f.entry);
    list.push_back(entry);
  }
  return list.size() == 1 ? list[0] : list;
}

void print_explanation(const Found& found) {
  const OrderedJson& e = found.entry;
  print(fmt::format("{}  ({})\n\n{}", bold(text_of(e, "name")), one_of_kind(found.kind),
                    wrapped(text_of(e, "summary"), 100, 2)));
  const auto section = [&](const char* title, const char* key) {
    if (const std::string text = text_of(e, key); !text.empty())
      print(fmt::format("\n{}\n{}", bold(title), wrapped(text, 100, 2)));
  };
  section("Formula", "formula");
  section("In a recipe", "place");
  section("Source", "source");
  if (e.contains("total_parameters"))
    print(fmt::format("\n{}\n  {} in all, {} for a token\n", bold("Parameters"),
                      short_count(e["total_parameters"].get<double>()),
                      short_count(e["active_parameters"].get<double>())));
  if (e.contains("stands_for"))
    print(fmt::format("\n{}\n{}", bold("Stands for"), as_toml(e["stands_for"])));
  else if (e["parameters"].empty() && found.kind != "recipe")
    print("\nIt has no parameters.\n");
  if (e["parameters"].empty()) return;
  TextTable table({"key", "default", "allowed", "meaning"});
  for (const OrderedJson& p : e["parameters"]) {
    const std::string allowed = text_of(p, "allowed"), value = text_of(p, "default");
    add_broken(table, {text_of(p, "name"), value.empty() ? "(must be given)" : value,
                       allowed.empty() ? text_of(p, "type") : allowed, text_of(p, "help")});
  }
  print(fmt::format("\n{}", table.text(2)));
}

}  // namespace

void add_list(Options& verb) {
  const auto options = std::make_shared<ListOptions>();
  verb.add("KIND", options->kind,
           "scorers, selectors, balance, experts, schedules, models, decorators or recipe");
  verb.flag("--json", options->json, "print JSON");
  verb.run([options] { list(*options); });
}

void add_explain(Options& verb) {
  struct Arguments {
    std::string name;
    bool json = false;
  };
  const auto options = std::make_shared<Arguments>();
  verb.add("NAME", options->name, "a name that `gatewright list` shows, or KIND:NAME").required();
  verb.flag("--json", options->json, "print JSON");
  verb.run([options] {
    const std::vector<Found> found = find(catalogue(), options->name);
    if (options->json) return print(as_json(found).dump(2) + "\n");
    for (size_t i = 0; i < found.size(); ++i) {
      if (i > 0) print("\n");
      print_explanation(found[i]);
    }
  });
}

}  // namespace gatewright::command
