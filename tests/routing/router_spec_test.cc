#include "gatewright/routing/router_spec.h"

#include <gtest/gtest.h>

#include <functional>

#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "routing_testing.h"

namespace gatewright {
namespace {

TEST(RouterProblems, AreAllFoundAtOnce) {
  RouterSpec spec =
      spec_of("linear", "group_limited_top_k",
              {{"top_k", int64_t{12}}, {"num_groups", int64_t{3}}, {"groups_used", int64_t{5}}});
  spec.activation = choice::Activation::kIdentity;
  spec.weights.weighting = choice::Weighting::kRenormalised;
  spec.decorators = {
      make_piece(scorer_decorators(), "logit_bias", {{"bias", std::vector<double>{1, 2}}}),
      make_piece(choice::selector_decorators(), "force", {{"experts", std::vector<int64_t>{8, 1}}}),
      make_piece(scorer_decorators(), "omit", {{"experts", std::vector<int64_t>{1}}})};
  EXPECT_EQ(router_problems(spec, 8),
            (std::vector<std::string>{
                "top_k = 12 of 8 experts; choose at most 8", "num_groups = 3 does not divide 8 experts",
                "[group_limited_top_k] groups_used must be in [1, 3], got 5",
                "[logit_bias] 2 values for 8 experts; one value an expert is needed",
                "[force] there is no expert 8; the experts are 0 to 7",
                "expert 1 is both omitted and forced; leave it out of one of the two lists",
                "weights = \"renormalised\" divides by a sum of logits, which can vanish, when activation = "
                "\"identity\"; use \"softmax_chosen\""}));
}

TEST(RouterProblems, AreNoneForEveryPieceAtItsDefaults) {
  for (const std::string& scorer : scorers().names()) {
    for (const std::string& selector : choice::selectors().names())
      EXPECT_EQ(router_problems(spec_of(scorer, selector), 8), std::vector<std::string>{}) << selector;
  }
}

TEST(RouterProblems, TellThatReluNeedsAnActivationOfSingleLogits) {
  RouterSpec spec = spec_of("linear", "relu");
  EXPECT_TRUE(router_problems(spec, 8).empty());
  spec.activation = choice::Activation::kSoftmax;
  EXPECT_EQ(router_problems(spec, 8).size(), 1u);
  EXPECT_EQ(router_problems(spec, 0), std::vector<std::string>{"a router needs at least one expert, got 0"});
}

TEST(RouterProblems, TellOfMoreSubRoutersThanExperts) {
  RouterSpec spec = spec_of("linear", "top_k");
  spec.scorer = make_piece(scorers(), "mixture", {{"num_routers", int64_t{9}}});
  EXPECT_EQ(
      router_problems(spec, 8),
      std::vector<std::string>{"num_routers = 9 sub-routers for 8 experts: more than there are experts to "
                               "disagree about; choose at most 8"});
  EXPECT_TRUE(router_problems(spec, 9).empty());
}

TEST(RouterProblems, TellThatTokensWithoutExpertsHaveNoShareOfACapacity) {
  for (const char* selector : {"relu", "threshold"}) {
    RouterSpec spec = spec_of("linear", selector);
    spec.decorators = {make_piece(choice::selector_decorators(), "capacity")};
    const std::vector<std::string> problems = router_problems(spec, 8);
    ASSERT_EQ(problems.size(), 1u) << selector;
    EXPECT_NE(problems[0].find("take selector = \"top_k\" or \"top_p\""), std::string::npos) << problems[0];
  }
}

TEST(RouterSpec, RefusesABudgetThatTheSelectorCannotKeep) {
  const auto problems = [](const char* selector, const Given& values, double budget) {
    RouterSpec spec = spec_of("linear", selector, values);
    spec.balance = {make_piece(balance_terms(), "expert_budget", {{"experts_per_token", budget}})};
    return router_problems(spec, 8);
  };
  EXPECT_TRUE(problems("top_p", {}, 2).empty());
  EXPECT_TRUE(problems("top_k", {}, 0).empty()) << "leaves the choice alone";
  EXPECT_EQ(
      problems("top_k", {}, 2),
      (std::vector<std::string>{
          "[expert_budget] moves the bound of selector = \"top_p\", and \"top_k\" has another rule; take "
          "top_p, or leave [balance.expert_budget] out"}));
  EXPECT_EQ(
      problems("top_p", {}, 9),
      (std::vector<std::string>{"[expert_budget] experts_per_token = 9, but with selector = \"top_p\" a "
                                "token visits 1 to 8 experts here"}));
  EXPECT_EQ(problems("top_p", {{"max_experts", int64_t{4}}}, 5).size(), 1u);
  EXPECT_EQ(problems("top_p", {{"min_experts", int64_t{3}}}, 2).size(), 1u);
}

TEST(Router, RefusesASpecificationThatContradictsItself) {
  const auto problem = [](const std::function<void(RouterSpec&)>& change,
                          const RouterSizes& sizes = {.hidden_size = 16, .num_experts = 8}) {
    RouterSpec spec = spec_of("linear", "top_k");
    change(spec);
    return error_of([&] {
      RandomStream random(1, "router");
      Router(spec, sizes, random);
    });
  };
  const Piece omit = make_piece(scorer_decorators(), "omit", {{"experts", std::vector<int64_t>{1, 3}}});
  const Piece force =
      make_piece(choice::selector_decorators(), "force", {{"experts", std::vector<int64_t>{3}}});
  EXPECT_EQ(problem([&](RouterSpec& s) {
              s.decorators = {omit, force};
            }),
            "expert 3 is both omitted and forced; leave it out of one of the two lists");
  EXPECT_EQ(problem([&](RouterSpec& s) {
              s.decorators = {omit, omit};
            }),
            "the decorator 'omit' is given twice");
  EXPECT_EQ(problem([&](RouterSpec& s) { s.decorators = {{.name = "capacty", .values = {}}}; }),
            "there is no decorator 'capacty', did you mean 'capacity'?");
  EXPECT_EQ(problem([&](RouterSpec& s) {
              s.balance = {make_piece(balance_terms(), "switch"), make_piece(balance_terms(), "switch")};
            }),
            "the balance term 'switch' is given twice");
  EXPECT_EQ(problem([](RouterSpec&) {}, {.hidden_size = 16, .num_experts = 0}),
            "a router needs a hidden size and experts, got a hidden size of 16 and 0 experts");
  EXPECT_EQ(problem([](RouterSpec& s) { s.selector.name = "top_x"; }),
            "there is no selector 'top_x', did you mean 'top_k'?");
  EXPECT_EQ(error_of([] { Router(nullptr, std::make_unique<choice::TopK>(1)); }),
            "a router needs a scorer and a selector");
}

}  // namespace
}  // namespace gatewright
