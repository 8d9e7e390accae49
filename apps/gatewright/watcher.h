// Shows a training: a progress line on a terminal, one line a log step otherwise.
#pragma once

#include <memory>
#include <optional>

#include "gatewright/report/terminal.h"
#include "gatewright/train/events.h"

namespace gatewright::command {

class Watcher : public Events {
 public:
  /// quiet: only warnings and the progress line.
  explicit Watcher(bool quiet) : quiet_(quiet) {}
  void note(std::string_view text) override;
  void warn(std::string_view text) override;
  void progress(std::string_view what, std::string_view unit, double done, double total) override;
  void metrics(const OrderedJson& row) override;
  void clear();

 private:
  bool quiet_;
  std::string stage_, last_;
  std::optional<Progress> progress_;
};

}  // namespace gatewright::command
