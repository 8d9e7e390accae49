// What a terminal can show: colour and progress only when a person is looking.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace gatewright {

enum class Output { kStandard, kError };

/// Whether it is a terminal (and not "dumb").
bool is_terminal(Output output);
/// A terminal, and neither NO_COLOR is set nor colours were switched off.
bool use_colour(Output output);
void switch_colour_off();
/// Columns of the terminal, 100 when it is none.
int terminal_width(Output output);

/// "1.2 M", "3.4 k", "950": a count with three digits at most.
std::string short_count(double count);
/// "16.3 MB", "3.40 kB", "950 bytes".
std::string short_size(double bytes);
/// "2 min 05 s", "48 s".
std::string short_duration(double seconds);

/// One line on standard error that is drawn again and again: done of total, rate, time left. Draws nothing
/// when standard error is no terminal.
class Progress {
 public:
  /// what: "tokenising"; unit: "MB", "steps".
  Progress(std::string what, std::string unit, double total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `note` stands at the end of the line.
  void update(double done, std::string_view note = "");
  /// Removes the line (before something else is printed).
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_, unit_;
  double total_, first_ = -1;
  bool visible_, drawn_ = false;
  Clock::time_point start_, last_;
};

}  // namespace gatewright
