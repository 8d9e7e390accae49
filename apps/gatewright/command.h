// One command in three programs: `gatewright` starts at once and has no LibTorch; for verbs that compute with
// tensors it replaces itself by `gatewright-tensor`, and for measurements by `gatewright-lab`, which lie
// beside it and take the same arguments.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "options.h"

namespace gatewright::command {

enum class Program { kCore, kTensor, kLab };

struct Verb {
  std::string name;
  std::string summary;
  Program program;
  std::string examples;  // shown at the end of its --help
};

/// Every verb of all programs, in the order of --help.
const std::vector<Verb>& verbs();

/// Adds a verb's options and sets what it does.
using AddVerb = void (*)(Options& verb);

/// Parses and runs. `implemented`: the verbs this program has. Errors are printed; the exit code is returned:
/// 0, 1 (failed) or 2 (wrong use).
int run_command(int argc, char** argv, const std::map<std::string, AddVerb>& implemented);

/// The option --threads.
void add_threads(Options& verb);

/// Thrown by a verb whose answer is an exit code ("they differ"), after it has printed what it found.
struct ExitCode {
  int code;
};

/// Standard output for results; "-" or a file for verbs with --out.
void print(std::string_view text);
/// A sentence on standard error that is no error.
void note(std::string_view text);

}  // namespace gatewright::command
