#include "gatewright/routing/assignment.h"

#include <gtest/gtest.h>

#include "gatewright/routing/record.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

// Expert 0 takes tokens 0 and 2, expert 1 none, expert 2 token 2.
const choice::Pairs kPairs{.num_tokens = 3, .expert_begin = {0, 2, 2, 3}, .token = {0, 2, 2}};

TEST(Assignment, GathersTheWeightOfEachPair) {
  const Assignment a = make_assignment(kPairs, tensor({1, 2, 3, 4, 5, 6, 7, 8, 9}, {3, 3}));
  EXPECT_EQ(to_floats(a.weight), (std::vector<float>{1, 7, 9}));
  EXPECT_EQ(a.num_experts(), 3);
  EXPECT_EQ(a.num_pairs(), 3);
  EXPECT_EQ(to_floats(expert_of_pairs(a)), (std::vector<float>{0, 0, 2}));
  EXPECT_EQ(to_floats(expert_counts(a)), (std::vector<float>{2, 0, 1}));
  EXPECT_EQ(to_pairs(a).token, kPairs.token);
  EXPECT_EQ(to_pairs(a).expert_begin, kPairs.expert_begin);
  EXPECT_NO_THROW(validate(a, "mine"));
}

TEST(Assignment, NamesWhatIsWrongWithIt) {
  EXPECT_EQ(error_of([] {
              make_assignment(kPairs, at::zeros({2, 3}));
            }),
            "[assignment] weights of shape [3, 3] expected");
  EXPECT_EQ(error_of([] { make_assignment_from_pair_weights(kPairs, at::zeros({2})); }),
            "[assignment] 2 weights for 3 pairs");
  Assignment a = make_assignment_from_pair_weights(kPairs, at::ones({3}));
  a.weight = tensor({1, std::numeric_limits<float>::quiet_NaN(), 1}, {3});
  EXPECT_EQ(error_of([&] { validate(a, "mine"); }), "[mine] a weight is not finite");
  a.weight = at::ones({2});
  EXPECT_EQ(error_of([&] { validate(a, "mine"); }), "[mine] 2 weights for 3 pairs");
  a.token = at::tensor({0, 3, 2}, at::kLong);
  EXPECT_EQ(error_of([&] { validate(a, "mine"); }), "[mine] token 3 of expert 0, there are 3 tokens");
}

TEST(Record, MeasuresLoads) {
  EXPECT_DOUBLE_EQ(load_imbalance(tensor({4, 4, 4, 4}, {4})), 0);
  EXPECT_DOUBLE_EQ(load_imbalance(tensor({6, 2, 0, 0}, {4})), 2) << "6 over a mean of 2, minus 1";
  EXPECT_DOUBLE_EQ(load_imbalance(tensor({0, 0}, {2})), 0);
  EXPECT_EQ(dead_experts(tensor({6, 2, 0, 0}, {4})), 2);
}

}  // namespace
}  // namespace gatewright
