#include <algorithm>

#include "gatewright/routing/balance/chunk_sparsity.h"
#include "gatewright/routing/balance/expert_budget.h"
#include "gatewright/routing/balance/main_router.h"
#include "gatewright/routing/balance/pooled_switch.h"
#include "gatewright/routing/balance/switch.h"
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
                                 .max = 1e12},
                                {.name = "over_layers",
                                 .help = "whether the layers' terms are summed or averaged",
                                 .default_value = std::string("sum"),
                                 .choices = {"sum", "mean"}}};
  all.insert(all.end(), own.begin(), own.end());
  return all;
}

/// The same with a mean over layers as the default.
std::vector<Parameter> averaged(std::vector<Parameter> parameters) {
  std::ranges::find(parameters, "over_layers", &Parameter::name)->default_value = std::string("mean");
  return parameters;
}

/// The same for a term that makes no sense with a negative weight.
std::vector<Parameter> not_negative(std::vector<Parameter> parameters) {
  for (const char* name : {"weight", "final_weight"})
    std::ranges::find(parameters, name, &Parameter::name)->min = 0;
  return parameters;
}

std::vector<Parameter> chunk_parameters() {
  constexpr double kMostSteps = 1 << 24;  // counted in float32
  return {{.name = "chunk",
           .help = "tokens in a chunk; must divide train.sequence_length",
           .default_value = int64_t{64},
           .min = 1,
           .max = 1 << 20},
          {.name = "stable",
           .help = "steps before the weight may change",
           .default_value = int64_t{1000},
           .min = 0,
           .max = kMostSteps},
          {.name = "window",
           .help = "steps whose mean losses are compared",
           .default_value = int64_t{100},
           .min = 1,
           .max = kMostSteps / 2},
          {.name = "min_factor",
           .help = "by how much the weight grows at least when the loss rose",
           .default_value = 1.025,
           .min = 1,
           .max = 1e6},
          {.name = "max_factor",
           .help = "the weight's largest multiple of its first value",
           .default_value = 4.0,
           .min = 1,
           .max = 1e6}};
}

constexpr const char* kScopes[] = {"micro_batch", "sequence", "global_batch", "shuffled", "mixed"};
constexpr const char* kFractions[] = {"tokens", "choices"};

template <typename Enum, size_t n>
Enum by_name(const char* const (&names)[n], const std::string& name) {
  return static_cast<Enum>(std::ranges::find(names, name) - std::begin(names));
}

/// Of the load-balancing loss with the defaults of Switch Transformers, or of a loss over the global batch.
std::vector<Parameter> switch_parameters(const char* scope, const char* fraction, const char* over_layers) {
  std::vector<Parameter> all = with_weight(
      0.01,
      {{.name = "scope",
        .help = "what f is counted over",
        .default_value = std::string(scope),
        .choices = {std::begin(kScopes), std::end(kScopes)}},
       {.name = "fraction",
        .help = "what counts are divided by: f sums to the experts a token (tokens) or to 1 (choices)",
        .default_value = std::string(fraction),
        .choices = {std::begin(kFractions), std::end(kFractions)}},
       {.name = "buffer",
        .help = "count the micro-batches of the step so far; false: those of all processes now",
        .default_value = true},
       {.name = "counting_pass",
        .help = "count all micro-batches of a step in a forward pass before the first is learned from",
        .default_value = false},
       {.name = "mixed_weight",
        .help = "with scope = \"mixed\": of the micro-batch's own loss, beside that of the global batch",
        .default_value = 0.01,
        .min = 0,
        .max = 1e6}});
  return std::string_view(over_layers) == "mean" ? averaged(std::move(all)) : all;
}

std::unique_ptr<BalanceTerm> make_switch(const Values& v, const RouterSizes&) {
  return std::make_unique<SwitchBalance>(
      SwitchOptions{.scope = by_name<BalanceScope>(kScopes, v.text("scope")),
                    .fraction = by_name<FractionOf>(kFractions, v.text("fraction")),
                    .buffer = v.flag("buffer"),
                    .counting_pass = v.flag("counting_pass"),
                    .mixed_weight = v.number("mixed_weight")});
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

Registry<BalanceFactory>::Entry expert_budget() {
  constexpr double kMostExperts = 1 << 20;
  return {{.name = "expert_budget",
           .summary = "no loss: the bound of top_p follows the number of experts a token visits",
           .source = "our option; the p of Huang et al. 2024, Harder Tasks Need More Experts, stays as it is",
           .formula = "choice by f * p;  after each step f *= (experts visited / experts_per_token)^rate,  "
                      "one f for all layers and the mean over them",
           .parameters = {{.name = "experts_per_token",
                           .help = "experts that a token shall visit on average, 0 to leave the choice alone",
                           .default_value = 2.0,
                           .min = 0,
                           .max = kMostExperts,
                           .same_in_all_layers = true},
                          {.name = "rate",
                           .help = "how fast the bound follows: the share of the distance made up in a step",
                           .default_value = 0.1,
                           .min = 0,
                           .max = 1,
                           .same_in_all_layers = true}}},
          [](const Values& v, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
            return std::make_unique<ExpertBudget>(v.number("experts_per_token"), v.number("rate"));
          }};
}

}  // namespace

const Registry<BalanceFactory>& balance_terms() {
  static const Registry<BalanceFactory> registry(
      "balance term",
      {
          {{.name = "switch",
            .summary = "load-balancing loss: experts' share of tokens times their mean probability",
            .source = "Fedus et al. 2021, Switch Transformers, eq. 4 to 6",
            .formula = "E * sum_e f_e P_e,  f_e = tokens that visit e / tokens,  P_e = mean probability; k "
                       "at balance",
            .parameters = switch_parameters("micro_batch", "tokens", "sum")},
           make_switch},
          {{.name = "global_batch",
            .summary =
                "the load-balancing loss over the global batch: experts may specialise on a kind of text",
            .source = "Qiu et al. 2025, Demons in the Detail, section 3",
            .formula =
                "E * sum_e f_e P_e,  f_e = share of all choices of the step so far, all processes,  P_e = "
                "mean probability in the micro-batch; 1 at balance",
            .parameters = switch_parameters("global_batch", "choices", "mean")},
           make_switch},
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
          {{.name = "activation_locality",
            .summary = "neighbouring tokens should have the same active experts",
            .source = "Song et al. 2025, BlockFFN, section 3",
            .formula = "mean over neighbours of BCE(sigmoid(s logit[t-1]), target sigmoid(s logit[t])),  s = "
                       "steepness",
            .parameters = averaged(not_negative(with_weight(0.002, {{.name = "steepness",
                                                                     .help = "factor of the logits",
                                                                     .default_value = 100.0,
                                                                     .min = 0,
                                                                     .max = 1e6,
                                                                     .min_open = true}})))},
           [](const Values& v, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<ActivationLocality>(v.number("steepness"));
           }},
          {{.name = "chunk_sparsity",
            .summary = "few experts should be used in each chunk of consecutive tokens; its weight adapts",
            .source = "Song et al. 2025, BlockFFN, section 3",
            .formula = "1 - mean over chunks and experts of exp(sum over the chunk of ln(1 - p + 1e-5))",
            .parameters = averaged(not_negative(with_weight(0.05, chunk_parameters())))},
           [](const Values& v, const RouterSizes&) -> std::unique_ptr<BalanceTerm> {
             return std::make_unique<ChunkSparsity>(v.integer("chunk"),
                                                    AdaptiveOptions{.stable = v.integer("stable"),
                                                                    .window = v.integer("window"),
                                                                    .min_factor = v.number("min_factor"),
                                                                    .max_factor = v.number("max_factor")});
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
          expert_budget(),
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
  result.mean_over_layers = values.text("over_layers") == "mean";
  return result;
}

}  // namespace gatewright
