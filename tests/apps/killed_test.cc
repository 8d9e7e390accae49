// convert and quantize that are killed while they write: nothing under the final name, and what is left does
// no harm.
#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "gatewright/formats/quantize.h"
#include "gatewright/models/families/convert.h"
#include "gatewright/models/families/random_source.h"
#include "tests/apps/run_command.h"

namespace gatewright {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

namespace fs = std::filesystem;

/// About 130 MB, nearly all of it in two matrices.
Architecture large_architecture() {
  Architecture a{.family = "llama",
                 .name = "large",
                 .vocab_size = 32000,
                 .hidden_size = 512,
                 .num_heads = 8,
                 .num_kv_heads = 8,
                 .head_dim = 64,
                 .max_positions = 256};
  a.layers.assign(1, {.dense_width = 512});
  return a;
}

class Killed : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    in_ = new TemporaryFolder;
    convert_to_gguf(RandomSource(large_architecture(), DataType::kF32), *in_ / "in.gguf");
  }
  static void TearDownTestSuite() { delete in_; }

  static std::string in() { return (*in_ / "in.gguf").string(); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// Kills the program as soon as its unfinished file has grown; whether it came to that.
  bool killed_in_mid_write(const std::vector<std::string>& arguments, const fs::path& unfinished) const {
    RunningCommand running(arguments, {});
    const auto size = [&] {
      std::error_code error;
      const uintmax_t bytes = fs::file_size(unfinished, error);
      return error ? 0 : bytes;
    };
    constexpr uintmax_t kGrown = 1 << 20;
    for (int i = 0; i < 60'000 && size() < kGrown; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(running.pid(), SIGKILL);
    return running.wait().code == 128 + SIGKILL;
  }

  TemporaryFolder folder_;
  static TemporaryFolder* in_;
};

TemporaryFolder* Killed::in_ = nullptr;

TEST_F(Killed, ConvertAndQuantizeLeaveNothingUnderTheFinalName) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"convert", in(), path("out.gguf"), "--type", "f16"},
        {"quantize", in(), path("out.gguf"), "--type", "q8_0"}}) {
    ASSERT_TRUE(killed_in_mid_write(command, path("out.gguf.partial"))) << command[0];
    EXPECT_THAT(folder_.files(), ElementsAre("out.gguf.partial")) << "named after what it is not yet";
    EXPECT_EQ(run({"show", path("out.gguf")}).code, 1);
    const CommandResult unfinished = run({"show", path("out.gguf.partial")});
    EXPECT_EQ(unfinished.code, 1) << "an unfinished file is no model";
    EXPECT_THAT(unfinished.err, HasSubstr("out.gguf.partial"));
    const CommandResult again = run(command);
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_THAT(folder_.files(), ElementsAre("out.gguf")) << "the next run takes the rest away";
    EXPECT_EQ(run({"show", path("out.gguf")}).code, 0);
    fs::remove(path("out.gguf"));
  }
}

TEST_F(Killed, WhatHadTheFinalNameBeforeIsStillThere) {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"convert", in(), path("out.gguf"), "--type", "f16"},
        {"quantize", in(), path("out.gguf"), "--type", "q8_0"}}) {
    folder_.write("out.gguf", "mine");
    ASSERT_TRUE(killed_in_mid_write(command, path("out.gguf.partial"))) << command[0];
    EXPECT_EQ(read_file(path("out.gguf")), "mine");
    fs::remove(path("out.gguf.partial"));
  }
}

TEST_F(Killed, AFolderHasNoWeightsAndNoConfigurationAndIsNoModel) {
  const std::vector<std::string> command = {"convert", in(), path("out"), "--type", "f16"};
  ASSERT_TRUE(killed_in_mid_write(command, path("out/model.safetensors.partial")));
  EXPECT_THAT(folder_.files(), ElementsAre("out", "out/model.safetensors.partial"));
  const CommandResult unfinished = run({"logits", path("out"), "--tokens", "1"});
  EXPECT_EQ(unfinished.code, 1);
  EXPECT_THAT(unfinished.err, HasSubstr("it is not a model folder"));
  EXPECT_EQ(run(command).code, 0);
  EXPECT_THAT(folder_.files(), ElementsAre("out", "out/config.json", "out/model.safetensors"));
}

}  // namespace
}  // namespace gatewright
