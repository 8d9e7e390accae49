#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <memory>
#include <optional>

#include "core_verbs.h"
#include "gatewright/base/error.h"
#include "gatewright/base/interrupt.h"
#include "gatewright/base/json.h"
#include "gatewright/base/quoted.h"
#include "gatewright/formats/model_lookup.h"
#include "gatewright/formats/weight_diff.h"
#include "gatewright/report/terminal.h"

namespace gatewright::command {
namespace {

struct DiffArguments {
  std::string first, second;
  double tolerance = -1;  // none
  bool json = false;
};

using Side = TensorDifference::Side;

std::string shown(const std::optional<Side>& side) {
  if (!side) return "absent";
  return fmt::format("{} [{}]", data_type_name(side->dtype), fmt::join(side->shape, ", "));
}

std::string line_of(const TensorDifference& t) {
  std::string text = printable(t.name) + ": " + shown(t.first);
  const bool alike =
      t.first && t.second && t.first->dtype == t.second->dtype && t.first->shape == t.second->shape;
  if (!alike) text += " -> " + shown(t.second);
  if (!t.values) return text;
  text += fmt::format("  max {:.3g}, rms {:.3g}, relative {:.3g}", t.values->max_abs, t.values->rms,
                      t.values->relative);
  if (t.values->not_finite > 0) text += fmt::format(", {} values not finite", t.values->not_finite);
  return text;
}

std::string text_of(const WeightDiff& diff) {
  std::string text;
  for (const KeyDifference& k : diff.keys)
    text += fmt::format("{}: {} -> {}\n", printable(k.key), k.first.value_or("absent"),
                        k.second.value_or("absent"));
  for (const TensorDifference& t : diff.tensors) text += line_of(t) + "\n";
  return text + fmt::format("{} of {} keys and {} of {} tensors differ\n", diff.keys.size(),
                            diff.keys.size() + diff.same_keys, diff.tensors.size(),
                            diff.tensors.size() + diff.same_tensors);
}

OrderedJson json_of(const std::optional<Side>& side) {
  if (!side) return nullptr;
  return {{"type", data_type_name(side->dtype)}, {"shape", side->shape}};
}

OrderedJson json_of(const WeightDiff& diff) {
  OrderedJson keys = OrderedJson::array(), tensors = OrderedJson::array();
  const auto text = [](const std::optional<std::string>& s) { return s ? OrderedJson(*s) : OrderedJson(); };
  for (const KeyDifference& k : diff.keys)
    keys.push_back({{"key", k.key}, {"first", text(k.first)}, {"second", text(k.second)}});
  for (const TensorDifference& t : diff.tensors) {
    OrderedJson json = {{"name", t.name}, {"first", json_of(t.first)}, {"second", json_of(t.second)}};
    if (t.values) {
      json["max_abs"] = t.values->max_abs;
      json["rms"] = t.values->rms;
      json["relative"] = std::isfinite(t.values->relative) ? OrderedJson(t.values->relative) : OrderedJson();
      json["not_finite"] = t.values->not_finite;
    }
    tensors.push_back(std::move(json));
  }
  return {{"same", diff.empty()},
          {"keys", keys},
          {"tensors", tensors},
          {"same_keys", diff.same_keys},
          {"same_tensors", diff.same_tensors}};
}

void run(const DiffArguments& a) {
  DiffOptions options;
  if (a.tolerance >= 0) options.tolerance = a.tolerance;
  catch_interrupts();
  std::optional<Progress> progress;
  options.progress = [&](uint64_t done, uint64_t total, std::string_view tensor) {
    if (interrupted()) fail("interrupted");
    if (!progress) progress.emplace("comparing", "MB", static_cast<double>(total) / 1e6);
    progress->update(static_cast<double>(done) / 1e6, printable(tensor));
  };
  const WeightDiff diff = diff_weights(find_model(a.first), find_model(a.second), options);
  progress.reset();
  print(a.json ? json_of(diff).dump(2, ' ', true, OrderedJson::error_handler_t::replace) + "\n"
               : text_of(diff));
  if (!diff.empty()) throw ExitCode{1};
}

}  // namespace

void add_diff(Options& verb) {
  const auto a = std::make_shared<DiffArguments>();
  verb.add("A", a->first, "a GGUF file, a .safetensors file, or a folder with model.safetensors").required();
  verb.add("B", a->second, "another, compared by the names of keys and tensors").required();
  verb.add("--tolerance", a->tolerance,
           "tensors whose values differ by no more are the same, whatever their types")
      .not_negative();
  verb.flag("--json", a->json, "print JSON");
  add_threads(verb);
  verb.run([a] { run(*a); });
}

}  // namespace gatewright::command
