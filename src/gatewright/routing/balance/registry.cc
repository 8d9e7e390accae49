#include <algorithm>

#include "gatewright/routing/balance/main_router.h"
#include "gatewright/routing/balance/pooled_switch.h"
#include "gatewright/routing/balance/terms.h"

namespace gatewright {
namespace {

/// A term's own parameters after those that all terms have.
std::vector<Parameter> with_weight(double weight, std::vector<Parameter> own = {}) {
  std::vector<Parameter> all = {{.name = "weight",
                                 .help = "factor of the term in the loss",
                                 .default_value = weight,
                                 .min = -1e6,
                                 .max = 1e6},
                                {.name = "final_weight",
                                 .help = "factor from step over_steps on, linear before",
                                 .default_value = weight,
                                 .min = -1e6,
                                 .max = 1e6},
                                {.name = "over_steps",
                                 .help = "steps from weight to final_weight, 0 to keep weight",
                                 .default_value = int64_t{0},
                                 .min = 0,
                                 .max = 1e12}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

BalanceScope scope(const std::string& name) {
  if (name == "micro_batch") return BalanceScope::kMicroBatch;
  return name == "sequence" ? BalanceScope::kSequence : BalanceScope::kGlobalBatch;
}

Registry<BalanceFactory>::Entry pooled_switch() {
  std::vector<Parameter> parameters = with_weight(0.01);
  for (Parameter& p : parameters) p.same_in_all_layers = true;
  return {
      {.name = "pooled_switch",
       .summary = "load-balancing loss over the tokens of all layers together",
       .source = "Qiu et al. 2024, Layerwise Recurrent Router for Mixture-of-Experts; so in Mixtral's code",
       .formula = "E * sum_e f_e P_e over all tokens of all layers; k at balance",
       .parameters = std::move(parameters),
       .across_layers = true},
      [](const Values&, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
        return std::make_unique<PooledSwitch>();
      }};
}

Registry<BalanceFactory>::Entry main_router() {
  return {{.name = "main_router",
           .summary = "keeps every sub-router of the scorer mixture in use",
           .source = "Mixture of Routers 2025, arXiv 2503.23362",
           .formula =
               "M * sum_m f_m P_m,  f_m = tokens for which m counts most / tokens,  P_m = mean weight of m",
           .parameters = with_weight(0.01),
           .needs_scorer = "mixture"},
          [](const Values&, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
            return std::make_unique<MainRouterBalance>();
          }};
}

}  // namespace

const Registry<BalanceFactory>& balance_terms() {
  static const Registry<BalanceFactory> registry(
      "balance term",
      {
          {{.name = "switch",
            .summary = "load-balancing loss: experts' share of tokens times their mean probability",
            .source = "Fedus et al. 2021, Switch Transformers, eq. 4 to 6; Qiu et al. 2025, Demons in the "
                      "Detail (global batch)",
            .formula = "E * sum_e f_e P_e,  f_e = tokens that visit e / tokens,  P_e = mean probability; k "
                       "at balance",
            .parameters = with_weight(0.01, {{.name = "scope",
                                              .help = "what f is counted over",
                                              .default_value = std::string("micro_batch"),
                                              .choices = {"micro_batch", "sequence", "global_batch"}}})},
           [](const Values& v, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<SwitchBalance>(scope(v.text("scope")));
           }},
          {{.name = "z_loss",
            .summary = "keeps the router's logits small",
            .source = "Zoph et al. 2022, ST-MoE, eq. 5",
            .formula = "mean over tokens of logsumexp(logits)^2",
            .parameters = with_weight(0.001)},
           [](const Values&, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<ZLoss>();
           }},
          {{.name = "importance",
            .summary = "evens out the sum of weights that each expert gets",
            .source = "Shazeer et al. 2017, Outrageously Large Neural Networks, eq. 6 and 7",
            .formula = "variance(importance) / mean(importance)^2,  importance_e = sum of e's weights",
            .parameters = with_weight(0.1)},
           [](const Values&, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<ImportanceLoss>();
           }},
          {{.name = "entropy",
            .summary = "sharper routing for each token (softer with a negative weight)",
            .source = "Huang et al. 2024, Harder Tasks Need More Experts, eq. 5",
            .formula = "mean over tokens of -sum_e p_e ln p_e",
            .parameters = with_weight(0.0001)},
           [](const Values&, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<EntropyLoss>();
           }},
          {{.name = "loss_free_bias",
            .summary = "no loss: a bias on the choice follows each expert's load",
            .source = "Wang et al. 2024, Auxiliary-Loss-Free Load Balancing; DeepSeek-V3 2024, section 2.1.2",
            .formula = "choice by score + b;  after each step b_e += rate * sign(mean load - load_e)",
            .parameters = {{.name = "rate",
                            .help = "change of a bias at each step",
                            .default_value = 0.001,
                            .min = 0,
                            .max = 1}}},
           [](const Values& v, const RouterSizes& s) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<LossFreeBias>(v.number("rate"), s.num_experts);
           }},
          pooled_switch(),
          main_router(),
      });
  return registry;
}

WeightedTerm make_balance_term(const std::string& name, const Values& values, const RouterSizes& sizes) {
  const auto& entry = balance_terms().at(name);
  WeightedTerm result{.name = name, .term = entry.make(values, sizes)};
  if (!values.all().contains("weight")) return result;
  result.weight = values.number("weight");
  result.final_weight = values.number("final_weight");
  result.over_steps = values.integer("over_steps");
  return result;
}

}  // namespace gatewright
