// The documentation says what is there: code blocks are parts of the examples, and every piece and every
// parameter with its name stands in docs/routing.md.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "routing_testing.h"

namespace gatewright {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string page(const char* name) {
  return text_of(std::filesystem::path(GATEWRIGHT_SOURCE_DIR) / "docs" / name);
}

std::vector<std::string> code_blocks(const std::string& text) {
  const std::string open = "```cpp\n", close = "```";
  std::vector<std::string> blocks;
  for (size_t at = text.find(open); at != std::string::npos; at = text.find(open, at)) {
    at += open.size();
    const size_t end = text.find(close, at);
    blocks.push_back(text.substr(at, end - at));
    at = end;
  }
  return blocks;
}

TEST(Documentation, ShowsCodeThatTheTestsBuild) {
  std::string examples;
  for (const auto& file : std::filesystem::recursive_directory_iterator(
           std::filesystem::path(GATEWRIGHT_SOURCE_DIR) / "examples")) {
    if (file.path().extension() == ".cc" || file.path().extension() == ".h") examples += text_of(file.path());
  }
  int blocks = 0;
  for (const char* name : {"library.md", "extending.md"}) {
    for (const std::string& block : code_blocks(page(name))) {
      ++blocks;
      EXPECT_NE(examples.find(block), std::string::npos) << name << " shows code that no example holds:\n"
                                                         << block;
    }
  }
  EXPECT_GE(blocks, 7);
}

template <typename Registry>
void expect_documented(const std::string& text, const Registry& registry,
                       const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    EXPECT_NE(text.find("| `" + name + "` |"), std::string::npos)
        << "docs/routing.md has no row for the " << registry.kind() << " " << name;
    for (const Parameter& p : registry.at(name).spec.parameters)
      EXPECT_NE(text.find("`" + p.name + "`"), std::string::npos) << name << " " << p.name;
  }
}

TEST(Documentation, HasARowForEveryPieceOfRouting) {
  const std::string text = page("routing.md");
  expect_documented(text, scorers(),
                    {"linear", "cosine", "mlp", "hash", "random", "recurrent", "mixture", "fixed_linear",
                     "uniform", "patch_linear"});
  expect_documented(text, scorer_decorators(), {"jitter", "noise", "residual_logits", "logit_bias", "omit"});
  expect_documented(text, choice::selectors(),
                    {"top_k", "top_p", "min_p", "threshold", "relu", "expert_choice", "group_limited_top_k",
                     "random", "all", "scheduled_top_k", "stochastic"});
  expect_documented(text, choice::selector_decorators(),
                    {"force", "capacity", "ranked_capacity", "broadcast", "data_selection"});
  expect_documented(text, balance_terms(),
                    {"switch", "global_batch", "z_loss", "importance", "entropy", "activation_locality",
                     "chunk_sparsity", "loss_free_bias", "expert_budget", "pooled_switch", "main_router"});
  for (const std::string& name : choice::weighting_names())
    EXPECT_NE(text.find("| `" + name + "` |"), std::string::npos) << name;
}

}  // namespace
}  // namespace gatewright
