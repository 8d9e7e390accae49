// The options of a verb: CLI11 behind one door, because every file that includes it compiles three times as
// long.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace gatewright::command {

/// One option or argument; what is called on it says what it takes.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option& required();
  Option& show_default();  // in --help
  Option& range(int least, int most);
  Option& range(double least, double most);
  Option& not_negative();
  Option& positive();
  Option& one_of(const std::vector<std::string>& words);
  Option& several();   // all words up to the next option
  Option& repeated();  // one word, and the option may come again

 private:
  CLI::Option* option_;
};

/// The options of one verb; variables must live until it has run.
class Options {
 public:
  explicit Options(CLI::App* app) : app_(app) {}

  /// "--name" or, for an argument, "NAME".
  Option add(const std::string& name, int& value, const std::string& help);
  Option add(const std::string& name, int64_t& value, const std::string& help);
  Option add(const std::string& name, uint64_t& value, const std::string& help);
  Option add(const std::string& name, double& value, const std::string& help);
  Option add(const std::string& name, std::string& value, const std::string& help);
  Option add(const std::string& name, std::vector<std::string>& values, const std::string& help);
  void flag(const std::string& name, bool& value, const std::string& help);
  /// A number that is handed on as soon as it is read.
  Option call(const std::string& name, const std::function<void(int)>& function, const std::string& help);

  /// A verb below this one, one of which must then be given.
  Options verb(const std::string& name, const std::string& summary);
  void examples(const std::string& text);
  void run(std::function<void()> function);

 private:
  CLI::App* app_;
};

}  // namespace gatewright::command
