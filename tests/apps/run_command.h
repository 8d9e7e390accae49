// Runs the built programs as a user does.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gatewright/base/file.h"
#include "tests/testing.h"

namespace gatewright {

struct CommandOptions {
  std::string input = {};                        // standard input
  std::string program = GATEWRIGHT_PROGRAM;      // or its copy somewhere else
  std::optional<uint64_t> file_size_limit = {};  // bytes
  std::string output = {};                       // a file for standard output; empty: it is captured
  std::vector<std::string> environment = {};     // NAME=VALUE, added
  bool error_terminal = false;                   // standard error is a terminal, as for a person
};

struct CommandResult {
  int code = -1;  // 128 + the signal's number when one ended it
  std::string out, err;
  double cpu_seconds = 0;
};

/// A program that runs; its output is in a folder of its own.
class RunningCommand {
 public:
  RunningCommand(const std::vector<std::string>& arguments, const CommandOptions& options)
      : options_(options) {
    const auto input = folder_.write("in", options.input);
    const std::string out = options.output.empty() ? (folder_ / "out").string() : options.output;
    const std::string err = (folder_ / "err").string();
    std::vector<std::string> words = {options.program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    int seen_by_program = -1;
    if (options.error_terminal) seen_by_program = open_terminal();
    pid_ = fork();
    if (pid_ != 0) {
      if (seen_by_program >= 0) close(seen_by_program);
      return;
    }
    dup2(open(input.c_str(), O_RDONLY), STDIN_FILENO);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    dup2(options.error_terminal ? seen_by_program : open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600),
         STDERR_FILENO);
    if (options.file_size_limit) {
      const rlimit limit{.rlim_cur = *options.file_size_limit, .rlim_max = *options.file_size_limit};
      setrlimit(RLIMIT_FSIZE, &limit);
    }
    for (const std::string& variable : options_.environment) putenv(const_cast<char*>(variable.c_str()));
    execv(options.program.c_str(), argv.data());
    _exit(127);
  }

  pid_t pid() const { return pid_; }

  CommandResult wait() {
    int status = 0;
    rusage used = {};
    const std::string shown = options_.error_terminal ? all_of_terminal() : "";
    wait4(pid_, &status, 0, &used);
    const auto seconds = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            .out = options_.output.empty() ? read_file(folder_ / "out") : "",
            .err = options_.error_terminal ? shown : read_file(folder_ / "err"),
            .cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime)};
  }

 private:
  /// Its other side, which the program writes to.
  int open_terminal() {
    terminal_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal_ < 0 || grantpt(terminal_) != 0 || unlockpt(terminal_) != 0)
      fail("no terminal can be opened");
    return open(ptsname(terminal_), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  }
  /// What is drawn until the program ends, when reading fails.
  std::string all_of_terminal() const {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(terminal_, buffer, sizeof buffer)) > 0;)
      all.append(buffer, static_cast<size_t>(n));
    close(terminal_);
    return all;
  }

  CommandOptions options_;
  TemporaryFolder folder_;
  int terminal_ = -1;
  pid_t pid_ = -1;
};

inline CommandResult run(const std::vector<std::string>& arguments, const CommandOptions& options = {}) {
  return RunningCommand(arguments, options).wait();
}

}  // namespace gatewright
