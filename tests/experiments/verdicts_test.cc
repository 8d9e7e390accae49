// What the judges of experiments make of given numbers: of small prototypes, and of a system that does
// nothing.
#include <gtest/gtest.h>

#include <algorithm>

#include "experiments/experiment.h"

namespace gatewright::experiments {
namespace {

using Values = std::vector<double>;

const Experiment& experiment(const std::string& slug) {
  return *std::ranges::find(all_experiments(), slug, &Experiment::slug);
}

/// Rows of arm, metric and one value a seed.
struct Row {
  std::string arm, metric;
  Values values;
};
Results results_of(const std::vector<Row>& rows) {
  Results results;
  for (size_t s = 0; s < rows.front().values.size(); ++s) {
    std::vector<Recorder::Measured> seed;
    for (const Row& row : rows) seed.push_back({row.arm, row.metric, row.values[s]});
    results.add(seed);
  }
  return results;
}

std::string verdict(const std::string& slug, const std::vector<Row>& rows) {
  return verdict_of(experiment(slug).judge(results_of(rows)));
}

/// The same values for every row whose arm is `arm` as for the arm `like`.
std::vector<Row> same_as(std::vector<Row> rows, const std::string& arm, const std::string& like) {
  for (Row& row : rows) {
    if (row.arm != arm) continue;
    for (const Row& other : rows) {
      if (other.arm == like && other.metric == row.metric) row.values = other.values;
    }
  }
  return rows;
}

TEST(ThorVerdict, ComparesInEverySeed) {
  const std::vector<Row> prototype = {{"random", "last loss", {0.74, 0.82, 0.94}},
                                      {"Switch", "last loss", {1.24, 1.50, 1.53}},
                                      {"random", "accuracy", {0.81, 0.80, 0.79}},
                                      {"Switch", "accuracy", {0.77, 0.76, 0.75}},
                                      {"THOR, alpha 5", "best loss", {0.598, 0.592, 0.655}},
                                      {"random", "best loss", {0.665, 0.651, 0.744}},
                                      {"Switch", "best loss", {0.760, 0.870, 0.889}},
                                      {"dense", "best loss", {0.649, 0.705, 0.731}},
                                      {"THOR, alpha 5", "last minus best loss", {0.01, 0.02, 0.02}},
                                      {"dense", "last minus best loss", {0.2, 0.3, 0.2}},
                                      {"Switch", "last minus best loss", {0.5, 0.6, 0.6}},
                                      {"THOR, alpha 5", "disagreement", {0.15, 0.16, 0.15}},
                                      {"random", "disagreement", {0.48, 0.46, 0.48}}};
  EXPECT_EQ(verdict("thor", prototype), "reproduced");
  EXPECT_EQ(verdict("thor", same_as(prototype, "THOR, alpha 5", "random")), "not reproduced");
  std::vector<Row> one_bad_seed = prototype;
  one_bad_seed[4].values[2] = 0.75;  // above random in one seed, below it on average
  EXPECT_EQ(verdict("thor", one_bad_seed), "direction");

  const char *best = "language model: best loss at equal compute",
             *rise = "language model: last minus best loss";
  std::vector<Row> full = prototype;
  for (const Row& row : {Row{"THOR, alpha 5", best, {4.1, 4.2, 4.1}}, Row{"random", best, {4.2, 4.3, 4.2}},
                         Row{"Switch", best, {4.3, 4.4, 4.3}}, Row{"dense", best, {4.2, 4.3, 4.2}},
                         Row{"THOR, alpha 5", rise, {0.2, 0.1, 0.2}}, Row{"Switch", rise, {0.5, 0.6, 0.6}},
                         Row{"dense", rise, {0.5, 0.4, 0.5}}})
    full.push_back(row);
  EXPECT_EQ(verdict("thor", full), "reproduced");
  full.back().values = {0.5, 0.3, 0.5};  // less than twice THOR's
  EXPECT_EQ(verdict("thor", full), "direction");
  full.back().values = {0.5, 0.1, 0.5};
  EXPECT_EQ(verdict("thor", full), "not reproduced");
}

TEST(GwMoeVerdict, WantsLowerLossAndLessSensitivity) {
  const char* lost = "accuracy lost under random experts";
  const std::vector<Row> prototype = {{"standard", "cross entropy", {0.454, 0.460, 0.436}},
                                      {"GW", "cross entropy", {0.436, 0.453, 0.423}},
                                      {"broadcast all", "cross entropy", {0.503, 0.473, 0.462}},
                                      {"standard", lost, {0.394, 0.326, 0.348}},
                                      {"GW", lost, {0.378, 0.309, 0.330}}};
  EXPECT_EQ(verdict("gw-moe", prototype), "reproduced");
  EXPECT_EQ(verdict("gw-moe", same_as(prototype, "GW", "standard")), "not reproduced");
  std::vector<Row> small = prototype;
  small[1].values = {0.450, 0.459, 0.435};  // lower in every seed, but by 0.002 on average
  EXPECT_EQ(verdict("gw-moe", small), "direction");

  const char* loss = "language model: validation loss";
  std::vector<Row> full = prototype;
  for (const Row& row : {Row{"standard", loss, {3.20, 3.21, 3.20}}, Row{"GW", loss, {3.19, 3.20, 3.18}},
                         Row{"broadcast all", loss, {3.3, 3.3, 3.3}}})
    full.push_back(row);
  EXPECT_EQ(verdict("gw-moe", full), "reproduced");
  full.back().values[1] = 3.19;  // better than GW in one seed
  EXPECT_EQ(verdict("gw-moe", full), "direction");
  EXPECT_EQ(verdict("gw-moe", same_as(full, "GW", "standard")), "not reproduced");
}

TEST(RmoeVerdict, ComparesWithTheLinearRouter) {
  const char *error = "relative error", *gradient = "gradient through the state";
  const std::vector<Row> prototype = {
      {"linear", error, {0.59, 0.51, 0.45}}, {"RMoE", error, {0.09, 0.06, 0.22}},
      {"NP", error, {0.58, 0.51, 0.44}},     {"RMoE", gradient, {1, 1, 1}},
      {"NP", gradient, {0, 0, 0}},           {"detach", gradient, {0, 0, 0}}};
  EXPECT_EQ(verdict("rmoe", prototype), "reproduced");
  EXPECT_EQ(verdict("rmoe", same_as(prototype, "RMoE", "NP")), "not reproduced");
  std::vector<Row> leaking = prototype;
  leaking[5].values = {0, 1e-9, 0};
  EXPECT_EQ(verdict("rmoe", leaking), "direction");
}

TEST(BlockffnVerdict, WantsSparserChunksAtABoundedCost) {
  const char *error = "relative error", *tokens = "token-level sparsity", *chunks = "chunk-level sparsity",
             *speed = "dense over sparse time", *apart = "relative difference";
  const std::vector<Row> prototype = {
      {"no sparsity loss", error, {0.034}}, {"2e-3 and 0.3", error, {0.040}},
      {"1e-2 and 1.0", error, {0.067}},     {"no sparsity loss", tokens, {0.33}},
      {"2e-3 and 0.3", tokens, {0.48}},     {"1e-2 and 1.0", tokens, {0.79}},
      {"no sparsity loss", chunks, {0.14}}, {"2e-3 and 0.3", chunks, {0.34}},
      {"1e-2 and 1.0", chunks, {0.60}},     {"block of 1", speed, {3}},
      {"block of 32", speed, {2.5}},        {"block of 1", apart, {1e-6}},
      {"block of 32", apart, {1e-6}}};
  EXPECT_EQ(verdict("blockffn", prototype), "reproduced");
  EXPECT_EQ(verdict("blockffn", same_as(prototype, "1e-2 and 1.0", "no sparsity loss")), "not reproduced");
  std::vector<Row> slow = prototype;
  slow[10].values = {1.5};
  EXPECT_EQ(verdict("blockffn", slow), "direction");

  std::vector<Row> full = prototype;
  for (const char* arm : {"no sparsity loss", "2e-2 and 1.0"}) {
    const bool plain = arm == std::string("no sparsity loss");
    full.push_back({arm, "language model: validation loss", {plain ? 3.0 : 3.05}});
    full.push_back({arm, "language model: token-level sparsity", {plain ? 0.4 : 0.8}});
    full.push_back({arm, "language model: chunk-level sparsity", {plain ? 0.1 : 0.4}});
  }
  EXPECT_EQ(verdict("blockffn", full), "reproduced");
  full.back().values = {0.2};
  EXPECT_EQ(verdict("blockffn", full), "direction");
  full.back().values = {0.1};
  EXPECT_EQ(verdict("blockffn", full), "not reproduced");
}

}  // namespace
}  // namespace gatewright::experiments
