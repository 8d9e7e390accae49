#include "watcher.h"

#include <fmt/format.h>

#include "command.h"

namespace gatewright::command {
namespace {

std::string routing_text(const OrderedJson& row) {
  if (!row.contains("experts_per_token")) return "";
  std::string text = fmt::format("  {:.2f} experts/token  imbalance {:.2f}",
                                 row["experts_per_token"].get<double>(), row["load_imbalance"].get<double>());
  if (const auto dead = row["dead_experts"].get<int64_t>()) text += fmt::format("  {} dead", dead);
  text += fmt::format("  largest logit {:.1f}", row["largest_logit"].get<double>());
  if (row.contains("balance")) {
    for (const auto& [name, value] : row["balance"].items())
      text += fmt::format("  {} {:.3f}", name, value.get<double>());
  }
  return text;
}

std::string line_of(const OrderedJson& row) {
  const auto step = row["step"].get<int64_t>();
  if (row.contains("validation_loss"))
    return fmt::format("step {}  validation: loss {:.4f}  {:.4f} bits/byte", step,
                       row["validation_loss"].get<double>(), row["validation_bits_per_byte"].get<double>());
  return fmt::format("step {}  loss {:.4f}  {:.4f} bits/byte  {} tokens/s{}", step, row["loss"].get<double>(),
                     row["bits_per_byte"].get<double>(), short_count(row["tokens_per_second"].get<double>()),
                     routing_text(row));
}

}  // namespace

void Watcher::note(std::string_view text) {
  clear();
  if (!quiet_) command::note(text);
}

void Watcher::warn(std::string_view text) {
  clear();
  command::note(fmt::format("warning: {}", text));
}

void Watcher::progress(std::string_view what, std::string_view unit, double done, double total) {
  if (stage_ != what) {
    clear();
    stage_ = what;
    progress_.emplace(stage_, std::string(unit), total);
  }
  progress_->update(done, last_);
}

void Watcher::metrics(const OrderedJson& row) {
  if (row.contains("loss")) last_ = fmt::format("loss {:.3f}", row["loss"].get<double>());
  if (quiet_) return;
  if (progress_) progress_->clear();
  command::note(line_of(row));
}

void Watcher::clear() {
  if (progress_) progress_->clear();
  progress_.reset();
  stage_.clear();
}

}  // namespace gatewright::command
