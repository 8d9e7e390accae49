#include "command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cstdio>
#include <new>
#include <span>

#include "gatewright/base/error.h"
#include "gatewright/base/file.h"
#include "gatewright/base/nearest.h"
#include "gatewright/base/parallel.h"
#include "gatewright/report/terminal.h"
#include "version.h"

namespace gatewright::command {
namespace {

constexpr int kFailed = 1, kWrongUse = 2;

void print_error(std::string_view message) {
  const bool colour = use_colour(Output::kError);
  fmt::print(stderr, "{}gatewright: {}{}\n", colour ? "\x1b[31m" : "", colour ? "\x1b[0m" : "", message);
}

std::vector<std::string> verb_names() {
  std::vector<std::string> names;
  for (const Verb& v : verbs()) names.push_back(v.name);
  return names;
}

void check_verb(std::span<char*> arguments) {
  if (arguments.size() < 2 || arguments[1][0] == '-') return;
  const auto names = verb_names();
  if (std::ranges::find(names, arguments[1]) == names.end())
    fail_usage("there is no verb '{}'{}\n`gatewright --help` shows them all",
               std::string(arguments[1]).substr(0, 60), did_you_mean(arguments[1], names));
}

void add_verbs(CLI::App& app, const std::map<std::string, AddVerb>& implemented) {
  for (const Verb& verb : verbs()) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.summary);
    Options options(sub);
    options.examples(verb.examples);
    if (const auto it = implemented.find(verb.name); it != implemented.end()) it->second(options);
  }
}

/// The innermost verb that was given ("tokenizer train").
const CLI::App* chosen(const CLI::App* app) {
  for (auto given = app->get_subcommands(); !given.empty(); given = app->get_subcommands())
    app = given.front();
  return app;
}

std::vector<std::string> names_below(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::App* sub : verb.get_subcommands(nullptr)) names.push_back(sub->get_name());
  return names;
}

/// What is wrong about a word that no option or argument of the verb takes.
std::string not_taken(const CLI::App& verb, const std::string& word) {
  if (word.starts_with("-")) {
    std::vector<std::string> options;
    for (const CLI::Option* o : verb.get_options()) {
      for (const std::string& l : o->get_lnames()) options.push_back("--" + l);
    }
    return fmt::format("there is no option {}{}", word.substr(0, 100), did_you_mean(word, options));
  }
  if (const std::vector<std::string> below = names_below(verb); !below.empty())
    return fmt::format("there is no verb '{} {}'{}", verb.get_name(), word.substr(0, 60),
                       did_you_mean(word, below));
  return fmt::format("'{}' was not expected", word.substr(0, 100));
}

std::string wrong_use(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* verb = chosen(&app);
  std::string name;
  for (const CLI::App* a = verb; a != nullptr; a = a->get_parent())
    name = a->get_name() + (name.empty() ? "" : " " + name);
  std::string message = error.what();
  if (const auto extra = verb->remaining(); !extra.empty())
    message = not_taken(*verb, extra.front());
  else if (const auto below = names_below(*verb); !below.empty())
    message = fmt::format("say what to do: {}", fmt::join(below, ", "));
  return fmt::format("{}\n`{} --help` shows how it is used", message, name);
}

}  // namespace

void add_threads(Options& verb) {
  verb.call("--threads", set_num_threads, "threads to use; all cores when not given").range(1, 4096);
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail("standard output can't be written");
}

void note(std::string_view text) { fmt::print(stderr, "{}\n", text); }

int run_command(int argc, char** argv, const std::map<std::string, AddVerb>& implemented) {
  ignore_write_signals();
  CLI::App app{"Gatewright: routing for language models. Train gates, look at them, serve the result.",
               "gatewright"};
  app.set_version_flag("--version", std::string("gatewright ") + kVersion);
  app.add_flag_callback("--no-colour,--no-color", switch_colour_off, "never use colours")
      ->configurable(false);
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error&) { return std::string(); });
  app.footer("`gatewright VERB --help` has examples. First steps: gatewright quickstart");
  try {
    check_verb(std::span(argv, static_cast<size_t>(argc)));
    add_verbs(app, implemented);
    if (argc < 2) {
      print(app.help());
      return kWrongUse;
    }
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return 0;
  } catch (const CLI::CallForVersion&) {
    print(std::string("gatewright ") + kVersion + "\n");
    return 0;
  } catch (const CLI::ParseError& e) {
    print_error(wrong_use(app, e));
    return kWrongUse;
  } catch (const ExitCode& e) {
    return e.code;
  } catch (const UsageError& e) {
    print_error(e.what());
    return kWrongUse;
  } catch (const Error& e) {
    print_error(e.what());
    return kFailed;
  } catch (const std::bad_alloc&) {
    print_error("there is not enough memory for this");
    return kFailed;
  } catch (const std::exception& e) {
    // LibTorch puts a trace of its own frames behind the first line.
    const std::string_view text = e.what();
    print_error(text.substr(0, text.find('\n')));
    return kFailed;
  }
  return 0;
}

}  // namespace gatewright::command
