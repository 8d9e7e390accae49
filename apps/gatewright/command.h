// One command in two programs: `gatewright` starts at once and has no LibTorch; for verbs that compute with
// tensors it replaces itself by `gatewright-tensor`, which lies beside it and takes the same arguments.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <map>
#include <string>
#include <vector>

namespace gatewright::command {

struct Verb {
  std::string name;
  std::string summary;
  bool needs_tensors;
  std::string examples;  // shown at the end of its --help
};

/// Every verb of both programs, in the order of --help.
const std::vector<Verb>& verbs();

/// Adds a verb's options and sets what it does.
using AddVerb = void (*)(CLI::App& verb);

/// Parses and runs. `implemented`: the verbs this program has. Errors are printed; the exit code is returned:
/// 0, 1 (failed) or 2 (wrong use).
int run_command(int argc, char** argv, const std::map<std::string, AddVerb>& implemented);

/// Standard output for results; "-" or a file for verbs with --out.
void print(std::string_view text);
/// A sentence on standard error that is no error.
void note(std::string_view text);

}  // namespace gatewright::command
