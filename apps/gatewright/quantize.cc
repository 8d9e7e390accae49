#include "gatewright/formats/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"
#include "gatewright/base/words.h"
#include "gatewright/report/terminal.h"

namespace gatewright::command {
namespace {

struct QuantizeArguments {
  std::string in, out, type, imatrix;
  bool dry_run = false, json = false;
};

std::string lower_name(DataType type) { return lower_case(data_type_name(type)); }

OrderedJson json_of(const QuantizedTensor& t) {
  OrderedJson json = {{"name", t.name},
                      {"shape", t.shape},
                      {"before", lower_name(t.before)},
                      {"after", lower_name(t.after)},
                      {"bytes", t.bytes_after}};
  if (t.wanted) json["wanted"] = lower_name(*t.wanted);
  if (t.seen) json["rows_seen"] = *t.seen;
  return json;
}

OrderedJson json_of(const QuantizeReport& report, const QuantizeArguments& a) {
  OrderedJson tensors = OrderedJson::array();
  for (const QuantizedTensor& t : report.tensors) tensors.push_back(json_of(t));
  return {{"out", a.out},
          {"dry_run", a.dry_run},
          {"bytes_before", report.bytes_before},
          {"bytes_after", report.bytes_after},
          {"tensors", tensors}};
}

/// "f32 -> q8_0: 12 tensors, 3.2 MB -> 0.9 MB", a line for each pair of types.
std::string table_of(const QuantizeReport& report) {
  struct Row {
    int tensors = 0;
    uint64_t before = 0, after = 0;
  };
  std::map<std::pair<DataType, DataType>, Row> rows;
  for (const QuantizedTensor& t : report.tensors) {
    Row& row = rows[{t.before, t.after}];
    ++row.tensors;
    row.before += t.bytes_before;
    row.after += t.bytes_after;
  }
  std::string text;
  for (const auto& [types, row] : rows) {
    const std::string change = types.first == types.second
                                   ? lower_name(types.first) + " kept"
                                   : lower_name(types.first) + " -> " + lower_name(types.second);
    text +=
        fmt::format("{:<18} {:>5} tensors  {:>9} -> {}\n", change, row.tensors,
                    short_size(static_cast<double>(row.before)), short_size(static_cast<double>(row.after)));
  }
  return text;
}

/// A few names, then how many more there are.
std::string some(const std::vector<std::string>& names) {
  constexpr size_t kShown = 8;
  const size_t shown = std::min(kShown, names.size());
  std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  return names.size() > shown ? text + fmt::format(" and {} more (--json has all)", names.size() - shown)
                              : text;
}

std::string fallbacks_of(const QuantizeReport& report) {
  std::map<std::pair<DataType, DataType>, std::vector<std::string>> names;
  for (const QuantizedTensor& t : report.tensors)
    if (t.wanted) names[{*t.wanted, t.after}].push_back(printable(t.name));
  std::string text;
  for (const auto& [types, tensors] : names)
    text += fmt::format("{} instead of {}, whose blocks don't fit the rows: {}\n", lower_name(types.second),
                        lower_name(types.first), some(tensors));
  return text;
}

/// What the importance matrix knew: rows of each expert, and where it knew nothing.
std::string calibration_of(const QuantizeReport& report) {
  std::vector<std::string> unknown, unseen;
  std::string text;
  for (const QuantizedTensor& t : report.tensors) {
    if (!t.seen) continue;
    if (t.seen->empty()) {
      unknown.push_back(printable(t.name));
      continue;
    }
    if (t.seen->size() > 1) {
      const auto [least, most] = std::ranges::minmax(*t.seen);
      text += fmt::format("{}: its {} experts saw {:.0f} to {:.0f} rows\n", printable(t.name), t.seen->size(),
                          least, most);
    }
    const std::vector<int64_t> matrices = t.unseen();
    if (!matrices.empty())
      unseen.push_back(t.seen->size() > 1
                           ? fmt::format("{} (experts {})", printable(t.name), fmt::join(matrices, " "))
                           : printable(t.name));
  }
  if (!unseen.empty())
    text += "warning: no calibration data, so quantised without importance: " + some(unseen) + "\n";
  if (!unknown.empty())
    text += "warning: not in the importance matrix, so quantised without importance: " + some(unknown) + "\n";
  return text;
}

void run(const QuantizeArguments& a) {
  const std::filesystem::path out = a.out;
  if (std::filesystem::is_directory(out)) fail_usage("{} is a folder, a file was expected", a.out);
  if (std::filesystem::is_directory(a.in))
    fail_usage("{} is a folder; quantize reads GGUF (`gatewright convert {} model.gguf` makes one)", a.in,
               a.in);
  std::optional<ImportanceMatrix> importance;
  if (!a.imatrix.empty()) importance = read_imatrix(a.imatrix);
  QuantizeOptions options = {.rules = QuantizeRules(a.type),
                             .importance = importance ? &*importance : nullptr,
                             .dry_run = a.dry_run};
  catch_interrupts();
  std::optional<Progress> progress;
  options.progress = [&](uint64_t done, uint64_t total, std::string_view tensor) {
    if (interrupted()) fail("interrupted; nothing was written");
    if (!progress) progress.emplace("quantising", "MB", static_cast<double>(total) / 1e6);
    progress->update(static_cast<double>(done) / 1e6, printable(tensor));
  };
  const QuantizeReport report = quantize_gguf(a.in, out, options);
  progress.reset();
  if (a.json)
    return print(json_of(report, a).dump(2, ' ', true, OrderedJson::error_handler_t::replace) + "\n");
  print(table_of(report) + fallbacks_of(report) + calibration_of(report) +
        fmt::format("{}: {} -> {}{}\n", a.dry_run ? "would be written" : a.out,
                    short_size(static_cast<double>(report.bytes_before)),
                    short_size(static_cast<double>(report.bytes_after)),
                    a.dry_run ? ", nothing was written" : ""));
}

}  // namespace

void add_quantize(Options& verb) {
  const auto a = std::make_shared<QuantizeArguments>();
  verb.add("IN", a->in, "a GGUF file of any architecture; of a split model, any part").required();
  verb.add("OUT", a->out, "the GGUF file to write").required();
  verb.add("--type", a->type,
           "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q4_k_m, q5_k, q5_k_m, q6_k; or rules "
           "PATTERN=TYPE, "
           "separated by commas, of which the first that matches a tensor's name holds")
      .required();
  verb.add("--imatrix", a->imatrix, "an importance matrix: columns that see large inputs are rounded better");
  verb.flag("--dry-run", a->dry_run, "show what would be done, write nothing");
  verb.flag("--json", a->json, "print the report as JSON");
  add_threads(verb);
  verb.run([a] { run(*a); });
}

}  // namespace gatewright::command
