#include "options.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>

namespace gatewright::command {

Option& Option::required() {
  option_->required();
  return *this;
}

Option& Option::show_default() {
  option_->capture_default_str();
  return *this;
}

Option& Option::range(int least, int most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option& Option::range(double least, double most) {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option& Option::not_negative() {
  option_->check(CLI::NonNegativeNumber);
  return *this;
}

Option& Option::positive() {
  option_->check(CLI::PositiveNumber);
  return *this;
}

Option& Option::one_of(const std::vector<std::string>& words) {
  option_->check(CLI::IsMember(words));
  return *this;
}

Option& Option::several() {
  option_->expected(1, -1);
  return *this;
}

Option& Option::repeated() {
  option_->expected(1)->take_all();
  return *this;
}

Option Options::add(const std::string& name, int& value, const std::string& help) {
  return Option(app_->add_option(name, value, help));
}
Option Options::add(const std::string& name, int64_t& value, const std::string& help) {
  return Option(app_->add_option(name, value, help));
}
Option Options::add(const std::string& name, uint64_t& value, const std::string& help) {
  return Option(app_->add_option(name, value, help));
}
Option Options::add(const std::string& name, double& value, const std::string& help) {
  return Option(app_->add_option(name, value, help));
}
Option Options::add(const std::string& name, std::string& value, const std::string& help) {
  return Option(app_->add_option(name, value, help));
}
Option Options::add(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  return Option(app_->add_option(name, values, help));
}

void Options::flag(const std::string& name, bool& value, const std::string& help) {
  app_->add_flag(name, value, help);
}

Option Options::call(const std::string& name, const std::function<void(int)>& function,
                     const std::string& help) {
  return Option(app_->add_option_function<int>(name, function, help)->trigger_on_parse());
}

Options Options::verb(const std::string& name, const std::string& summary) {
  app_->require_subcommand(1);
  return Options(app_->add_subcommand(name, summary));
}

void Options::examples(const std::string& text) { app_->footer("Examples:\n" + text); }

void Options::run(std::function<void()> function) { app_->callback(std::move(function)); }

}  // namespace gatewright::command
