#include "gatewright/routing/choice/registry.h"

#include "gatewright/routing/choice/selectors/batch_selectors.h"
#include "gatewright/routing/choice/selectors/broadcast.h"
#include "gatewright/routing/choice/selectors/data_selection.h"
#include "gatewright/routing/choice/selectors/decorators.h"
#include "gatewright/routing/choice/selectors/ranked_capacity.h"
#include "gatewright/routing/choice/selectors/row_selectors.h"
#include "gatewright/routing/choice/selectors/scheduled_top_k.h"
#include "gatewright/routing/choice/selectors/stochastic.h"

namespace gatewright::choice {
namespace {

constexpr double kMostExperts = 65536;

Parameter top_k_parameter() {
  return {.name = "top_k",
          .help = "experts for each token",
          .default_value = int64_t{2},
          .min = 1,
          .max = kMostExperts};
}

Parameter min_experts_parameter(int64_t least) {
  return {.name = "min_experts",
          .help = "the best experts are chosen in any case until there are this many",
          .default_value = least,
          .min = 0,
          .max = kMostExperts};
}

template <typename T>
std::unique_ptr<Selector> make(auto... arguments) {
  return std::make_unique<T>(arguments...);
}

GroupScore group_score(const Values& v) {
  return v.text("group_score") == "best" ? GroupScore::kBest : GroupScore::kSumOfTwoBest;
}

Overflow overflow(const std::string& name) {
  if (name == "drop_by_position") return Overflow::kDropByPosition;
  return name == "drop_by_score" ? Overflow::kDropByScore : Overflow::kReroute;
}

std::vector<int32_t> ids(const std::vector<int64_t>& values) { return {values.begin(), values.end()}; }

Parameter experts_parameter(std::string name, std::string help) {
  return {.name = std::move(name),
          .help = std::move(help),
          .default_value = int64_t{0},
          .min = 0,
          .max = kMostExperts};
}

Registry<SelectorFactory>::Entry scheduled_top_k() {
  return {
      {.name = "scheduled_top_k",
       .summary = "top-k whose k grows in training, and is free afterwards (SMoE-Dropout)",
       .source = "Chen et al. 2023, Sparse MoE as the New Dropout",
       .formula = "k = round((k_max - k_min) step / steps) + k_min for linear_increase",
       .parameters = {{.name = "k_schedule",
                       .help = "how k changes over the whole training",
                       .default_value = std::string("linear_increase"),
                       .choices = k_schedule_names()},
                      experts_parameter("k_min", "least k in training; 0 for half of the experts"),
                      experts_parameter("k_max", "most k in training; 0 for all experts"),
                      experts_parameter("k_inference", "k outside training; 0 for k_max")}},
      [](const Values& v) {
        return make<ScheduledTopK>(ScheduledTopKOptions{.schedule = parse_k_schedule(v.text("k_schedule")),
                                                        .k_min = v.integer("k_min"),
                                                        .k_max = v.integer("k_max"),
                                                        .k_inference = v.integer("k_inference")});
      }};
}

DrawLevel draw_level(const std::string& name) {
  if (name == "token") return DrawLevel::kToken;
  if (name == "sentence") return DrawLevel::kSentence;
  return name == "ensemble" ? DrawLevel::kEnsemble : DrawLevel::kFixed;
}

Registry<SelectorFactory>::Entry stochastic() {
  return {
      {.name = "stochastic",
       .summary = "one expert drawn for the whole batch in training, for each sentence in use (THOR)",
       .source = "Zuo et al. 2022, Taming Sparsely Activated Transformer with Stochastic Experts",
       .formula = "expert ~ uniform(0 .. E - 1), anew in every layer and pass",
       .parameters = {{.name = "inference",
                       .help = "outside training: a draw for each sentence or token, all experts, or always "
                               "the same one",
                       .default_value = std::string("sentence"),
                       .choices = {"token", "sentence", "ensemble", "fixed"}},
                      {.name = "expert",
                       .help = "the expert of inference = \"fixed\"",
                       .default_value = int64_t{0},
                       .min = 0,
                       .max = kMostExperts}}},
      [](const Values& v) {
        return make<StochasticSelector>(draw_level(v.text("inference")), v.integer("expert"));
      }};
}

Registry<SelectorDecoratorFactory>::Entry data_selection() {
  return {{.name = "data_selection",
           .summary = "each expert takes the same number of tokens of a sequence, its best ones (not causal)",
           .source = "Union of Experts 2025, arXiv 2503.02495",
           .formula = "expert e takes the C tokens of each sequence with the highest normalised score for e; "
                      "C = floor(share T), or the largest number of choosers",
           .parameters =
               {{.name = "normalisation",
                 .help = "scores over their sum over a token's experts, or over the batch at one position",
                 .default_value = std::string("experts"),
                 .choices = {"experts", "batch"}},
                {.name = "capacity_factor",
                 .help = "factor of the normalised scores",
                 .default_value = 1.0,
                 .min = 0,
                 .max = 1e6,
                 .min_open = true},
                {.name = "share",
                 .help = "share of a sequence that each expert takes; 0 for the largest number of choosers",
                 .default_value = 0.0,
                 .min = 0,
                 .max = 1}}},
          [](std::unique_ptr<Selector> inner, const Values& v) -> std::unique_ptr<Selector> {
            return std::make_unique<DataSelection>(
                std::move(inner),
                DataSelectionOptions{.normalisation = parse_gate_normalisation(v.text("normalisation")),
                                     .capacity_factor = v.number("capacity_factor"),
                                     .share = v.number("share")});
          }};
}

}  // namespace

const Registry<SelectorFactory>& selectors() {
  static const Registry<SelectorFactory> registry(
      "selector",
      {
          {{.name = "top_k",
            .summary = "the k experts with the highest scores",
            .source = "Shazeer et al. 2017, Outrageously Large Neural Networks, section 2.1",
            .formula = "chosen = the top_k highest scores; ties to the lower expert id",
            .parameters = {top_k_parameter()}},
           [](const Values& v) { return make<TopK>(v.integer("top_k")); }},
          {{.name = "top_p",
            .summary = "the smallest set of experts whose probabilities sum to more than p",
            .source = "Huang et al. 2024, Harder Tasks Need More Experts, section 3.2",
            .formula = "sort by falling probability; chosen = the shortest prefix with a sum > top_p",
            .parameters = {{.name = "top_p",
                            .help = "probability that the chosen experts must exceed together",
                            .default_value = 0.4,
                            .min = 0,
                            .max = 1,
                            .min_open = true},
                           min_experts_parameter(1),
                           {.name = "max_experts",
                            .help = "at most this many, 0 for no limit",
                            .default_value = int64_t{0},
                            .min = 0,
                            .max = kMostExperts}}},
           [](const Values& v) {
             return make<TopP>(v.number("top_p"), v.integer("min_experts"), v.integer("max_experts"));
           }},
          {{.name = "min_p",
            .summary = "experts at least min_p times as probable as the best one",
            .source = "Nguyen et al. 2024, min-p sampling, applied to experts",
            .formula = "chosen = {e : p_e >= min_p max_j p_j}",
            .parameters = {{.name = "min_p",
                            .help = "share of the best expert's probability",
                            .default_value = 0.5,
                            .min = 0,
                            .max = 1,
                            .min_open = true}}},
           [](const Values& v) { return make<MinP>(v.number("min_p")); }},
          {{.name = "threshold",
            .summary = "experts with a probability above a fixed threshold",
            .source = "common practice",
            .formula =
                "chosen = {e : p_e > threshold}, and the best min_experts in any case; with 0 of them, "
                "possibly none",
            .parameters = {{.name = "threshold",
                            .help = "probability to exceed",
                            .default_value = 0.2,
                            .min = 0,
                            .max = 1,
                            .max_open = true},
                           min_experts_parameter(1)}},
           [](const Values& v) { return make<Threshold>(v.number("threshold"), v.integer("min_experts")); }},
          {{.name = "relu",
            .summary = "every expert with a positive logit, possibly none; the logit can be the weight",
            .source = "Wang et al. 2024, ReMoE, section 3.1",
            .formula = "chosen = {e : logit_e > 0}",
            .parameters = {}},
           [](const Values&) { return make<ReluSelector>(); }},
          {{.name = "expert_choice",
            .summary = "each expert takes its best tokens, so that loads are equal (not causal)",
            .source = "Zhou et al. 2022, Mixture-of-Experts with Expert Choice Routing",
            .formula = "expert e takes the ceil(T experts_per_token / E) tokens with the highest score for e",
            .parameters = {{.name = "experts_per_token",
                            .help = "experts for each token on average",
                            .default_value = 2.0,
                            .min = 0,
                            .max = kMostExperts,
                            .min_open = true}}},
           [](const Values& v) { return make<ExpertChoice>(v.number("experts_per_token")); }},
          {{.name = "group_limited_top_k",
            .summary = "top-k within the best groups of experts (DeepSeek's device limit)",
            .source = "DeepSeek-V2 2024, section 2.1.3; DeepSeek-V3 2024, section 2.1.2",
            .formula = "score of a group = its best expert, or the sum of its two best; chosen = top_k of "
                       "the experts in the groups_used best groups",
            .parameters =
                {top_k_parameter(),
                 {.name = "num_groups",
                  .help = "groups of consecutive experts; must divide the number of experts",
                  .default_value = int64_t{4},
                  .min = 1,
                  .max = kMostExperts},
                 {.name = "groups_used",
                  .help = "groups that a token may visit",
                  .default_value = int64_t{2},
                  .min = 1,
                  .max = kMostExperts},
                 {.name = "group_score",
                  .help = "what a group is ranked by: its best expert (V2) or the sum of its two best (V3)",
                  .default_value = std::string("best"),
                  .choices = {"best", "sum_of_two_best"}}}},
           [](const Values& v) {
             return make<GroupLimitedTopK>(v.integer("top_k"), v.integer("num_groups"),
                                           v.integer("groups_used"), group_score(v));
           }},
          {{.name = "random",
            .summary = "k experts drawn at random for each token: the baseline every router should beat",
            .source = "Zuo et al. 2022, Taming Sparsely Activated Transformer with Stochastic Experts (THOR)",
            .formula = "chosen = top_k different experts, uniformly",
            .parameters = {top_k_parameter()}},
           [](const Values& v) { return make<RandomSelector>(v.integer("top_k")); }},
          {{.name = "all",
            .summary = "every expert, weighted: a soft mixture",
            .source = "Jacobs et al. 1991, Adaptive Mixtures of Local Experts",
            .formula = "chosen = all experts; the weights alone decide",
            .parameters = {}},
           [](const Values&) { return make<All>(); }},
          scheduled_top_k(),
          stochastic(),
      });
  return registry;
}

const Registry<SelectorDecoratorFactory>& selector_decorators() {
  static const Registry<SelectorDecoratorFactory> registry(
      "decorator",
      {
          {{.name = "force",
            .summary = "experts that every token visits, whatever its scores",
            .source = "common practice",
            .formula = "chosen = experts + the best of the selector's choice in the places that are left "
                       "(all of it with add)",
            .parameters = {{.name = "experts",
                            .help = "expert ids",
                            .default_value = std::vector<int64_t>{},
                            .required = true,
                            .min = 0,
                            .max = kMostExperts},
                           {.name = "add",
                            .help = "put them on top of the choice and not in place of its lowest experts",
                            .default_value = false}}},
           [](std::unique_ptr<Selector> inner, const Values& v) -> std::unique_ptr<Selector> {
             return std::make_unique<Force>(std::move(inner), ids(v.integers("experts")), v.flag("add"));
           }},
          {{.name = "capacity",
            .summary = "at most a fixed number of tokens for each expert; the rest is dropped or re-routed",
            .source =
                "Fedus et al. 2021, Switch Transformers, section 2.2; Riquelme et al. 2021, V-MoE, section 4",
            .formula = "at most ceil(factor N / E) tokens an expert, N = pairs chosen",
            .parameters = {{.name = "factor",
                            .help = "capacity over the mean load",
                            .default_value = 1.25,
                            .min = 0,
                            .max = 1e6,
                            .min_open = true},
                           {.name = "overflow",
                            .help = "which pairs of a full expert go, or whether their tokens go to the next "
                                    "best expert with room",
                            .default_value = std::string("drop_by_position"),
                            .choices = {"drop_by_position", "drop_by_score", "reroute"}}}},
           [](std::unique_ptr<Selector> inner, const Values& v) -> std::unique_ptr<Selector> {
             return std::make_unique<Capacity>(std::move(inner), v.number("factor"),
                                               overflow(v.text("overflow")));
           }},
          {{.name = "ranked_capacity",
            .summary =
                "at most a fixed number of tokens for each expert; first choices come before second ones",
            .source = "Xue et al. 2024, OpenMoE, section 3; Lepikhin et al. 2020, GShard, algorithm 1",
            .formula = "C = floor(factor N / E), made even, at least minimum, N = pairs chosen in the group; "
                       " a choice "
                       "is kept when fewer than C of its expert come before it",
            .parameters = {{.name = "factor",
                            .help = "capacity over the mean load, in training",
                            .default_value = 1.25,
                            .min = 0,
                            .max = 1e6,
                            .min_open = true},
                           {.name = "evaluation_factor",
                            .help = "the same outside training; 0: nothing is dropped",
                            .default_value = 2.0,
                            .min = 0,
                            .max = 1e6},
                           {.name = "minimum",
                            .help = "least capacity of an expert",
                            .default_value = int64_t{4},
                            .min = 1,
                            .max = 1 << 24},
                           {.name = "group",
                            .help = "tokens that share the capacity",
                            .default_value = std::string("sequence"),
                            .choices = {"sequence", "batch"}}}},
           [](std::unique_ptr<Selector> inner, const Values& v) -> std::unique_ptr<Selector> {
             return std::make_unique<RankedCapacity>(
                 std::move(inner), RankedCapacityOptions{.factor = v.number("factor"),
                                                         .evaluation_factor = v.number("evaluation_factor"),
                                                         .minimum = v.integer("minimum"),
                                                         .by_sequence = v.text("group") == "sequence"});
           }},
          {{.name = "broadcast",
            .summary = "in training, tokens that the router is uncertain about visit every expert",
            .source =
                "Wu et al. 2024, GW-MoE: Resolving Uncertainty in MoE Router with Global Workspace Theory",
            .formula =
                "H = -sum_e p_e ln(p_e + 1e-5);  all experts, weighted by p, for the first slots tokens of "
                "each sequence with H >= threshold",
            .parameters = {{.name = "threshold",
                            .help = "uncertainty in nats from which a token is broadcast; at most ln E",
                            .default_value = 1.8,
                            .min = -1e6,
                            .max = 1e6},
                           {.name = "slots",
                            .help = "tokens of a sequence that can be broadcast",
                            .default_value = int64_t{16},
                            .min = 0,
                            .max = 1 << 24}}},
           [](std::unique_ptr<Selector> inner, const Values& v) -> std::unique_ptr<Selector> {
             return std::make_unique<Broadcast>(std::move(inner), v.number("threshold"), v.integer("slots"));
           }},
          data_selection(),
      });
  return registry;
}

}  // namespace gatewright::choice
