// Points around cluster centres, and the classifier that is trained on them.
#include "experiments/clusters.h"

#include <gmock/gmock.h>

#include "tests/testing.h"

namespace gatewright::experiments {
namespace {

using testing::HasSubstr;

RouterSpec by_lot(const std::string& inference) {
  return {.scorer = make_piece(scorers(), "uniform"),
          .selector = make_piece(choice::selectors(), "stochastic", {{"inference", inference}}),
          .weights = {.weighting = choice::Weighting::kEqual}};
}

ExpertClassifier::Spec spec_of(int64_t experts, const RouterSpec& router) {
  return {.hidden_size = 6,
          .num_layers = 2,
          .num_experts = experts,
          .width = 5,
          .num_classes = 3,
          .router = router};
}

TEST(Clusters, FarApartCentresAreNearestToTheirPoints) {
  RandomStream random(1, "test");
  const Clusters clusters(5, 4, 100, random);
  const Clusters::Points points = clusters.draw(400, random);
  EXPECT_EQ(points.size(), 400);
  EXPECT_TRUE(clusters.nearest(points.x).equal(points.cluster));
  for (int64_t c = 0; c < 5; ++c) EXPECT_GT((points.cluster == c).sum().item<int64_t>(), 40);
}

TEST(Clusters, PointsHaveUnitNoise) {
  RandomStream random(2, "test");
  const Clusters::Points points = Clusters(1, 8, 3, random).draw(4000, random);
  EXPECT_NEAR(points.x.var(0, /*unbiased=*/true).mean().item<double>(), 1, 0.05);
}

TEST(ExpertClassifier, ByLotWithOneExpertIsTheEnsemble) {
  RandomStream random(3, "test");
  const Tensor x = normal_tensor({7, 6}, random);
  ExpertClassifier lot(spec_of(1, by_lot("token")), 1), all(spec_of(1, by_lot("ensemble")), 2);
  EXPECT_FALSE(lot.forward(x, false, random).logits.equal(all.forward(x, false, random).logits));
  all.copy_from(lot);
  EXPECT_TRUE(lot.forward(x, false, random).logits.equal(all.forward(x, false, random).logits));
}

TEST(ExpertClassifier, TrainsTheExpertsThatWereDrawn) {
  RandomStream random(4, "test");
  ExpertClassifier model(spec_of(4, by_lot("token")), 1);
  mean_cross_entropy(model.forward(normal_tensor({9, 6}, random), true, random).logits,
                     draw_indices(3, 9, random))
      .backward();
  int64_t banks = 0;
  for (const NamedTensor& p : model.parameters()) {
    if (p.name.find("experts.{}.down_proj.weight") == std::string::npos) continue;
    EXPECT_EQ((p.tensor.grad().abs().sum({1, 2}) > 0).sum().item<int64_t>(), 1) << p.name;
    ++banks;
  }
  EXPECT_EQ(banks, 2);
}

TEST(ExpertClassifier, RefusesTheWeightsOfAnotherShape) {
  ExpertClassifier one(spec_of(1, by_lot("token")), 1), four(spec_of(4, by_lot("token")), 1);
  EXPECT_THAT(error_of([&] { one.copy_from(four); }), HasSubstr("layers.0.mlp.experts.{}.up_proj.weight"));
}

}  // namespace
}  // namespace gatewright::experiments
