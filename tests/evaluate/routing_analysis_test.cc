#include "gatewright/evaluate/routing_analysis.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "gatewright/base/random.h"
#include "tests/testing.h"

namespace gatewright {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const float kNoChoice = std::numeric_limits<float>::quiet_NaN();

using Table = std::vector<std::vector<double>>;

/// H(row) + H(column) - H(row, column) in bits, each entropy from its own probabilities.
double information_by_entropies(const Table& joint) {
  double all = 0;
  for (const auto& row : joint)
    for (const double x : row) all += x;
  if (all == 0) return 0;
  const auto term = [&](double count) { return count > 0 ? -count / all * std::log2(count / all) : 0; };
  double rows = 0, columns = 0, both = 0;
  for (const auto& row : joint) {
    double sum = 0;
    for (const double x : row) {
      sum += x;
      both += term(x);
    }
    rows += term(sum);
  }
  for (size_t c = 0; c < joint[0].size(); ++c) {
    double sum = 0;
    for (const auto& row : joint) sum += row[c];
    columns += term(sum);
  }
  return rows + columns - both;
}

TEST(MutualInformation, IsZeroForIndependentTables) {
  EXPECT_NEAR(mutual_information({{1, 1}, {1, 1}}), 0, 1e-12);
  EXPECT_NEAR(mutual_information({{1, 2, 3}, {10, 20, 30}}), 0, 1e-12);
  EXPECT_NEAR(mutual_information({{5, 7}}), 0, 1e-12);
}

TEST(MutualInformation, IsTheEntropyOfWhatIsDetermined) {
  EXPECT_NEAR(mutual_information({{3, 0}, {0, 3}}), 1, 1e-12);
  Table diagonal(8, std::vector<double>(8));
  for (size_t i = 0; i < 8; ++i) diagonal[i][i] = 2;
  EXPECT_NEAR(mutual_information(diagonal), 3, 1e-12) << "log2 of 8";
  // Two of four experts tell the domain: one bit, not two.
  EXPECT_NEAR(mutual_information({{1, 1, 0, 0}, {0, 0, 1, 1}}), 1, 1e-12);
}

TEST(MutualInformation, AgreesWithTheEntropiesOnRandomTables) {
  RandomStream random(1, "tables");
  for (int i = 0; i < 200; ++i) {
    Table joint(1 + random.below(6), std::vector<double>(1 + random.below(6)));
    for (auto& row : joint)
      for (double& x : row) x = static_cast<double>(random.below(5));
    EXPECT_NEAR(mutual_information(joint), information_by_entropies(joint), 1e-9);
  }
}

TEST(MutualInformation, OfNothingIsZero) {
  EXPECT_EQ(mutual_information({}), 0);
  EXPECT_EQ(mutual_information({{0, 0}, {0, 0}}), 0);
  EXPECT_EQ(mutual_information({{}, {}}), 0);
}

TraceHeader header_of(int64_t experts, std::vector<std::string> domains = {"a", "b"},
                      int64_t vocabulary = 10) {
  return {.layers = {{.layer = 3, .num_experts = experts}},
          .domains = std::move(domains),
          .vocab_size = vocabulary};
}

struct Visit {
  int32_t token, domain;
  std::vector<int32_t> experts;
  float margin = 1;
};

TraceBatch batch_of(const std::vector<Visit>& visits) {
  TraceBatch batch{.layers = {{}}};
  LayerTrace& layer = batch.layers[0];
  for (const Visit& v : visits) {
    batch.token.push_back(v.token);
    batch.domain.push_back(v.domain);
    for (const int32_t e : v.experts) {
      layer.expert.push_back(e);
      layer.weight.push_back(0.5f);
    }
    layer.row_begin.push_back(static_cast<int64_t>(layer.expert.size()));
    layer.margin.push_back(v.margin);
  }
  return batch;
}

LayerAnalysis analyse(const TraceHeader& header, const std::vector<Visit>& visits) {
  RoutingAnalysis analysis(header);
  analysis.add(batch_of(visits));
  return analysis.layers().at(0);
}

TEST(RoutingAnalysis, CountsLoadDomainsAndCompanyByHand) {
  // Six visits: expert 0 three times, 1 twice, 2 once, 3 never.
  const LayerAnalysis a = analyse(header_of(4), {{1, 0, {0, 1}}, {2, 0, {0}}, {1, 1, {0, 2}}, {3, -1, {1}}});
  EXPECT_EQ(a.layer, 3);
  EXPECT_THAT(a.load,
              ElementsAre(DoubleNear(0.5, 1e-12), DoubleNear(1.0 / 3, 1e-12), DoubleNear(1.0 / 6, 1e-12), 0));
  EXPECT_NEAR(a.entropy, 0.5 + std::log2(3) / 3 + std::log2(6) / 6, 1e-12);
  EXPECT_NEAR(a.load_imbalance, 0.5 * 4 - 1, 1e-12) << "the largest load is twice the mean";
  EXPECT_NEAR(a.experts_per_token, 1.5, 1e-12);
  EXPECT_THAT(a.tokens_by_experts, ElementsAre(0, 2, 2, 0, 0))
      << "two tokens visit one expert, two visit two";
  EXPECT_THAT(a.domain_experts_per_token, ElementsAre(1.5, 2)) << "domain a: 3 visits of 2 tokens; b: 2 of 1";
  // Domain a: 0, 1, 0; domain b: 0, 2. The token without a domain counts for none.
  EXPECT_THAT(a.domains[0], ElementsAre(DoubleNear(2.0 / 3, 1e-12), DoubleNear(1.0 / 3, 1e-12), 0, 0));
  EXPECT_THAT(a.domains[1], ElementsAre(0.5, 0, 0.5, 0));
  EXPECT_NEAR(a.domain_information, information_by_entropies({{2, 1, 0, 0}, {1, 0, 1, 0}}), 1e-12);
  EXPECT_NEAR(a.token_information, information_by_entropies({{2, 1, 1, 0}, {1, 0, 0, 0}, {0, 1, 0, 0}}),
              1e-12);
  // Of the three tokens at expert 0 one also visits 1 and one 2; of the two at 1 one also visits 0.
  EXPECT_THAT(a.together[0], ElementsAre(1, DoubleNear(1.0 / 3, 1e-12), DoubleNear(1.0 / 3, 1e-12), 0));
  EXPECT_THAT(a.together[1], ElementsAre(0.5, 1, 0, 0));
  EXPECT_THAT(a.together[3], ElementsAre(0, 0, 0, 0));
}

TEST(RoutingAnalysis, RoutingByDomainHasAllTheInformationAndByChanceNone) {
  std::vector<Visit> by_domain, by_chance;
  for (int32_t i = 0; i < 16; ++i) {
    by_domain.push_back({i % 8, i % 2, {i % 2}});
    by_chance.push_back({i % 8, i % 2, {(i / 2) % 2}});
  }
  EXPECT_NEAR(analyse(header_of(2), by_domain).domain_information, 1, 1e-12);
  EXPECT_NEAR(analyse(header_of(2), by_chance).domain_information, 0, 1e-12);
}

TEST(RoutingAnalysis, RoutingByTokenIdHasAllItsInformation) {
  std::vector<Visit> visits;
  for (int32_t i = 0; i < 40; ++i) visits.push_back({i % 8, 0, {i % 8 / 2}});
  EXPECT_NEAR(analyse(header_of(4), visits).token_information, 2, 1e-12) << "log2 of 4 experts";
  std::vector<Visit> all;
  for (int32_t i = 0; i < 40; ++i) all.push_back({i % 8, 0, {0, 1, 2, 3}});
  EXPECT_NEAR(analyse(header_of(4), all).token_information, 0, 1e-12);
}

TEST(RoutingAnalysis, EvenLoadHasFullEntropyAndOneExpertNone) {
  std::vector<Visit> even, one;
  for (int32_t i = 0; i < 8; ++i) {
    even.push_back({0, 0, {i}});
    one.push_back({0, 0, {5}});
  }
  EXPECT_NEAR(analyse(header_of(8), even).entropy, 3, 1e-12);
  EXPECT_NEAR(analyse(header_of(8), even).load_imbalance, 0, 1e-12);
  EXPECT_NEAR(analyse(header_of(8), one).entropy, 0, 1e-12);
  EXPECT_NEAR(analyse(header_of(8), one).load_imbalance, 7, 1e-12);
}

TEST(RoutingAnalysis, BatchesAddUp) {
  RandomStream random(2, "visits");
  std::vector<Visit> visits;
  for (int i = 0; i < 60; ++i) {
    Visit v{static_cast<int32_t>(random.below(10)),
            static_cast<int32_t>(random.below(3)) - 1,
            {},
            random.uniform()};
    for (int32_t e = 0; e < 5; ++e)
      if (random.below(2)) v.experts.push_back(e);
    visits.push_back(v);
  }
  const LayerAnalysis whole = analyse(header_of(5), visits);
  RoutingAnalysis pieces(header_of(5));
  for (size_t i = 0; i < visits.size(); i += 7)
    pieces.add(batch_of({visits.begin() + static_cast<std::ptrdiff_t>(i),
                         visits.begin() + static_cast<std::ptrdiff_t>(std::min(visits.size(), i + 7))}));
  EXPECT_EQ(pieces.tokens(), 60);
  const LayerAnalysis again = pieces.layers()[0];
  EXPECT_EQ(again.load, whole.load);
  EXPECT_EQ(again.together, whole.together);
  EXPECT_EQ(again.domains, whole.domains);
  EXPECT_NEAR(again.token_information, whole.token_information, 1e-12);
  EXPECT_NEAR(again.mean_margin, whole.mean_margin, 1e-12);
}

TEST(RoutingAnalysis, FindsTheTokensWithTheLeastMargin) {
  RoutingAnalysis analysis(header_of(4));
  analysis.add(batch_of({{7, 0, {0}, 0.5f},
                         {7, 0, {0}, 0.3f},
                         {2, 0, {0}, 0.1f},
                         {5, 0, {0}, 0.4f},
                         {5, 0, {0}, 0.4f},
                         {9, 0, {0, 1, 2, 3}, kNoChoice}}));
  EXPECT_NEAR(analysis.layers()[0].mean_margin, 1.7 / 5, 1e-6)
      << "a token without another choice counts for none";
  const auto all = analysis.most_uncertain(10, 1);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].token, 2);
  EXPECT_EQ(all[0].count, 1);
  EXPECT_NEAR(all[0].margin, 0.1, 1e-6);
  EXPECT_EQ(all[1].token, 5) << "of equal margins the lower id comes first";
  EXPECT_EQ(all[2].token, 7);
  const auto frequent = analysis.most_uncertain(1, 2);
  ASSERT_EQ(frequent.size(), 1u);
  EXPECT_EQ(frequent[0].token, 5);
}

TEST(RoutingAnalysis, OfNothingIsZero) {
  const LayerAnalysis a = RoutingAnalysis(header_of(3)).layers().at(0);
  EXPECT_THAT(a.load, ElementsAre(0, 0, 0));
  EXPECT_EQ(a.entropy, 0);
  EXPECT_EQ(a.load_imbalance, 0);
  EXPECT_EQ(a.experts_per_token, 0);
  EXPECT_EQ(a.domain_information, 0);
  EXPECT_TRUE(std::isnan(a.domains[0][0]));
  EXPECT_THAT(RoutingAnalysis(header_of(3)).most_uncertain(5, 0), IsEmpty());
  EXPECT_THAT(RoutingAnalysis({}).layers(), IsEmpty());
}

TEST(RoutingAnalysis, AHeaderAloneMakesNoLargeTables) {
  // Two billion token ids, of which one occurs.
  RoutingAnalysis analysis(header_of(4, {"a", "b"}, INT32_MAX));
  analysis.add(batch_of({{INT32_MAX - 1, 0, {2}}}));
  EXPECT_EQ(analysis.layers()[0].load[2], 1);
  EXPECT_THAT(error_of([] { RoutingAnalysis large(header_of(65535)); }), HasSubstr("65535 experts"));
  TraceHeader many{.vocab_size = 10};
  many.layers.assign(4096, {.layer = 0, .num_experts = 1000});
  EXPECT_THAT(error_of([&] { RoutingAnalysis large(many); }), HasSubstr("4096 layers"));
}

}  // namespace
}  // namespace gatewright
