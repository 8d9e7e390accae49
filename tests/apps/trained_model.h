// What the tests of the verbs on models share: a small model of two domains, trained once for the tests of a
// file.
#pragma once

#include <gmock/gmock.h>

#include "tests/apps/run_command.h"

namespace gatewright {

inline const std::string kSmallRecipe = R"(seed = 5
[model]
vocab_size = 300
hidden_size = 32
num_layers = 2
num_heads = 4
[experts]
num_experts = 4
width = 16
[routing]
top_k = 2
[balance.switch]
weight = 0.01
[train]
steps = 10
batch_size = 4
sequence_length = 32
learning_rate = 0.01
log_every = 2
)";

class TrainedModel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    for (int i = 0; i < 20; ++i) {
      std::string prose, code;
      for (int k = 0; k < 20; ++k) {
        prose += "the gate " + std::to_string(i * k % 13) + " opens slowly at dawn. ";
        code += "int x" + std::to_string(i) + " = y + " + std::to_string(k) + ";\n";
      }
      folder_->write("text/prose/" + std::to_string(i) + ".txt", prose);
      folder_->write("text/code/" + std::to_string(i) + ".c", code);
    }
    folder_->write("small.toml", kSmallRecipe);
    trained_ = new CommandResult(train({}, "model"));
  }
  static void TearDownTestSuite() {
    delete folder_;
    delete trained_;
  }
  void SetUp() override { ASSERT_EQ(trained_->code, 0) << trained_->err; }

  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static std::vector<std::string> train_arguments(const std::vector<std::string>& more,
                                                  const std::string& out) {
    std::vector<std::string> arguments = {"train", path("small.toml"), "--data", path("text"),
                                          "--out", path(out)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static CommandResult train(const std::vector<std::string>& more, const std::string& out,
                             const CommandOptions& options = {}) {
    return run(train_arguments(more, out), options);
  }

  static TemporaryFolder* folder_;
  static CommandResult* trained_;
};

inline TemporaryFolder* TrainedModel::folder_ = nullptr;
inline CommandResult* TrainedModel::trained_ = nullptr;

/// 3000 bytes that the vocabulary has no merges for, so as many tokens.
inline std::string long_text() {
  std::string text;
  for (int i = 0; i < 1500; ++i) text += "zq";
  return text;
}

}  // namespace gatewright
