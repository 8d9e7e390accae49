// The text of several domains, languages mixed with even draws, and models that take over others' weights.
#include "experiments/markov_domains.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "tests/testing.h"

namespace gatewright::experiments {
namespace {

using testing::HasSubstr;

constexpr const char* kModel = "[model]\nhidden_size = 16\nnum_layers = 1\nnum_heads = 2\ninit = 0.1\n";

std::string routed(int64_t top_k) {
  return std::string(kModel) +
         "[experts]\nnum_experts = 4\nwidth = 8\ninit = 0.1\n[routing]\ninit = 0.5\ntop_k = " +
         std::to_string(top_k) + "\n";
}

TEST(MarkovDomains, TakeTurnsAndHaveEightSuccessors) {
  RandomStream random(1, "test");
  const Domains domains = generated_domains(make_markov_domains(random, 2), kDomainVocabulary);
  const Batch text = text_of(domains.training, 200, 64, random);
  ASSERT_EQ(text.tokens.size(0), 200);
  ASSERT_EQ(text.tokens.size(1), 64);
  std::map<std::pair<int64_t, int64_t>, std::set<int64_t>> next;  // of domain and token
  const auto token = text.tokens.accessor<int64_t, 2>(), target = text.targets.accessor<int64_t, 2>();
  for (int64_t r = 0; r < 200; ++r) {
    for (int64_t t = 0; t < 64; ++t) next[{r % 2, token[r][t]}].insert(target[r][t]);
  }
  size_t most = 0;
  for (const auto& [key, successors] : next) most = std::max(most, successors.size());
  EXPECT_EQ(most, 8u);
}

TEST(SuccessorLanguage, MixedEvenlyPrefersTheTokensGiven) {
  RandomStream random(2, "test");
  SuccessorLanguage language({0, 1, 2, 3, 4, 5, 6, 7}, 1, random);
  language.mix_evenly(0.5, {0, 1});
  std::map<int32_t, std::map<int32_t, double>> next;
  const std::vector<int32_t> row = language.sequence(40000, random);
  for (size_t t = 0; t + 1 < row.size(); ++t) ++next[row[t]][row[t + 1]];
  for (const auto& [token, counts] : next) {
    double all = 0, own = 0;
    for (const auto& [successor, count] : counts) all += count, own += successor > 1 ? count : 0;
    if (all < 1000) continue;
    EXPECT_LE(counts.size(), 3u) << token;  // its own successor, 0 and 1
    if (counts.size() == 3) {
      EXPECT_NEAR(own / all, 0.5, 0.05) << token;
    }
  }
  EXPECT_THAT(error_of([&] { language.mix_evenly(0.5, {9}); }), HasSubstr("token 9"));
}

TEST(CopiedParameters, GiveTheSameModelOtherNumbersOfExperts) {
  RandomStream random(3, "test");
  const Domains domains = generated_domains(make_markov_domains(random, 1), kDomainVocabulary);
  const Batch text = text_of(domains.training, 2, 16, random);
  SmallModel two(routed(2), kDomainVocabulary, 1, 1e-2), other(routed(2), kDomainVocabulary, 2, 1e-2),
      four(routed(4), kDomainVocabulary, 2, 1e-2);
  EXPECT_NE(two.evaluate(text).cross_entropy, other.evaluate(text).cross_entropy);
  copy_parameters(two.decoder(), other.decoder());
  copy_parameters(two.decoder(), four.decoder());
  EXPECT_EQ(two.evaluate(text).cross_entropy, other.evaluate(text).cross_entropy);
  EXPECT_EQ(four.evaluate(text).experts_per_token.front(), 4);
  EXPECT_NE(two.evaluate(text).cross_entropy, four.evaluate(text).cross_entropy);
}

TEST(CopiedParameters, NeedAPlaceForEach) {
  SmallModel dense(std::string(kModel) + "dense_width = 8\n", 8, 1, 1e-2), sparse(routed(2), 8, 1, 1e-2);
  EXPECT_THAT(error_of([&] { copy_parameters(dense.decoder(), sparse.decoder()); }),
              HasSubstr("model.layers.0.mlp.gate_proj.weight"));
}

}  // namespace
}  // namespace gatewright::experiments
