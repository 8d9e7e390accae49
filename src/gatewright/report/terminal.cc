#include "gatewright/report/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace gatewright {
namespace {

bool colour_allowed = true;

int descriptor(Output output) { return output == Output::kStandard ? STDOUT_FILENO : STDERR_FILENO; }

}  // namespace

bool is_terminal(Output output) {
  const char* term = std::getenv("TERM");
  return isatty(descriptor(output)) != 0 && !(term && std::string_view(term) == "dumb");
}

bool use_colour(Output output) {
  const char* no_colour = std::getenv("NO_COLOR");
  return colour_allowed && !(no_colour && *no_colour) && is_terminal(output);
}

void switch_colour_off() { colour_allowed = false; }

int terminal_width(Output output) {
  winsize size = {};
  if (ioctl(descriptor(output), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

std::string short_count(double count) {
  const double size = std::abs(count);
  const auto scaled = [](double x, const char* unit) {
    return std::abs(x) < 9.995   ? fmt::format("{:.2f}{}", x, unit)
           : std::abs(x) < 99.95 ? fmt::format("{:.1f}{}", x, unit)
                                 : fmt::format("{:.0f}{}", x, unit);
  };
  if (size < 999.5) return fmt::format("{:.0f}", count);
  if (size < 999.5e3) return scaled(count / 1e3, " k");
  if (size < 999.5e6) return scaled(count / 1e6, " M");
  return scaled(count / 1e9, " G");
}

std::string short_size(double bytes) {
  return bytes < 999.5 ? fmt::format("{:.0f} bytes", bytes) : short_count(bytes) + "B";
}

std::string short_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string what, std::string unit, double total)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      visible_(is_terminal(Output::kError)),
      start_(Clock::now()) {}

Progress::~Progress() { clear(); }

void Progress::update(double done, std::string_view note) {
  if (!visible_) return;
  const auto now = Clock::now();
  if (first_ < 0) first_ = done;
  if (drawn_ && now - last_ < std::chrono::milliseconds(100) && done < total_) return;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? (done - first_) / seconds : 0;
  std::string line = fmt::format("{} {}/{} {}", what_, short_count(done), short_count(total_), unit_);
  if (rate > 0)
    line +=
        fmt::format("  {} {}/s  {} left", short_count(rate), unit_, short_duration((total_ - done) / rate));
  if (!note.empty()) line += fmt::format("  {}", note);
  const auto width = static_cast<size_t>(terminal_width(Output::kError)) - 1;
  if (line.size() > width) line.resize(width);
  std::fprintf(stderr, "\r\x1b[K%s", line.c_str());
  std::fflush(stderr);
  last_ = now;
  drawn_ = true;
}

void Progress::clear() {
  if (!drawn_) return;
  std::fprintf(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace gatewright
