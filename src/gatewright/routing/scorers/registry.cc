#include "gatewright/routing/scorers/decorators.h"
#include "gatewright/routing/scorers/mixture.h"
#include "gatewright/routing/scorers/patch.h"
#include "gatewright/routing/scorers/recurrent.h"
#include "gatewright/routing/scorers/scorers.h"

namespace gatewright {
namespace {

Parameter init_parameter() {
  return {.name = "init",
          .help = "standard deviation of the initial weights",
          .default_value = 0.02,
          .min = 0,
          .max = 10};
}

MlpScorer::Nonlinearity nonlinearity(const std::string& name) {
  if (name == "tanh") return MlpScorer::Nonlinearity::kTanh;
  return name == "relu" ? MlpScorer::Nonlinearity::kRelu : MlpScorer::Nonlinearity::kSilu;
}

RecurrentOptions recurrent_options(const Values& v) {
  using State = RecurrentOptions::State;
  const std::string& state = v.text("state");
  return {.size = v.integer("recurrent_size"),
          .gru = v.text("cell") == "gru",
          .shared_projector = v.flag("shared_projector"),
          .init = v.number("init"),
          .state = state == "passed"        ? State::kPassed
                   : state == "not_passing" ? State::kNotPassing
                                            : State::kDetach};
}

Registry<ScorerFactory>::Entry recurrent() {
  return {
      {.name = "recurrent",
       .summary = "a state that each token carries through the routers of all layers (RMoE)",
       .source = "Qiu et al. 2024, Layerwise Recurrent Router for Mixture-of-Experts",
       .formula = "h' = cell(W1 x, h of the layer below);  logits = W2 h',  W1 [P, H], W2 [E, P]",
       .parameters = {{.name = "recurrent_size",
                       .help = "width P of the state and of the cell, which all layers share",
                       .default_value = int64_t{128},
                       .min = 1,
                       .max = 65536,
                       .same_in_all_layers = true},
                      {.name = "cell",
                       .help = "a gated recurrent unit, or h' = tanh(Win u + bin + Whn h + bhn)",
                       .default_value = std::string("gru"),
                       .choices = {"gru", "rnn"},
                       .same_in_all_layers = true},
                      {.name = "state",
                       .help = "hand the state to the next layer, hand it without its gradient, or begin at "
                               "zero in every layer",
                       .default_value = std::string("passed"),
                       .choices = {"passed", "detach", "not_passing"}},
                      {.name = "shared_projector",
                       .help = "one W1 for all layers",
                       .default_value = false,
                       .same_in_all_layers = true},
                      init_parameter()}},
      [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
        return std::make_unique<RecurrentScorer>(s, recurrent_options(v), r);
      }};
}

Registry<ScorerFactory>::Entry mixture() {
  return {{.name = "mixture",
           .summary = "several linear routers, weighted for each token by a main router",
           .source = "Mixture of Routers 2025, arXiv 2503.23362",
           .formula = "p = sum_m a_m softmax(W_m h),  a = softmax(V h);  logits = ln p",
           .parameters = {{.name = "num_routers",
                           .help = "sub-routers M",
                           .default_value = int64_t{3},
                           .min = 1,
                           .max = 1024},
                          {.name = "combination",
                           .help = "mix the sub-routers' probabilities, or their logits before one softmax",
                           .default_value = std::string("probs"),
                           .choices = {"probs", "logits"}},
                          {.name = "top_m",
                           .help = "sub-routers that count for a token; 0 for all",
                           .default_value = int64_t{0},
                           .min = 0,
                           .max = 1024,
                           .at_most = "num_routers"},
                          init_parameter()}},
          [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
            return std::make_unique<MixtureScorer>(
                s,
                MixtureOptions{.num_routers = v.integer("num_routers"),
                               .level = v.text("combination") == "probs" ? MixtureLevel::kProbabilities
                                                                         : MixtureLevel::kLogits,
                               .top_m = v.integer("top_m"),
                               .init = v.number("init")},
                r);
          }};
}

Registry<ScorerFactory>::Entry fixed_linear() {
  return {{.name = "fixed_linear",
           .summary = "one linear layer with random weights that are never trained (SMoE-Dropout)",
           .source = "Chen et al. 2023, Sparse MoE as the New Dropout",
           .formula = "logits = W h + b,  W [E, H] and b [E] uniform in +- gate_scale / sqrt(H), frozen",
           .parameters = {{.name = "gate_scale",
                           .help = "factor of the weights; 0 gives every expert the same logit",
                           .default_value = 1.0,
                           .min = 0,
                           .max = 1e6}}},
          [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
            return std::make_unique<FixedLinearScorer>(s, v.number("gate_scale"), r);
          }};
}

Registry<ScorerFactory>::Entry patch_linear() {
  return {{.name = "patch_linear",
           .summary = "one choice for all tokens of a patch, from one linear layer over them (not causal)",
           .source = "Union of Experts 2025, arXiv 2503.02495",
           .formula = "logits = W vec(patch) + b,  W [E, P H] and b uniform in +- 1 / sqrt(P H) at first",
           .parameters = {{.name = "patch_length",
                           .help = "tokens P of a patch; the last one of a sequence may have fewer",
                           .default_value = int64_t{60},
                           .min = 1,
                           .max = 65536}}},
          [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
            return std::make_unique<PatchScorer>(s, v.integer("patch_length"), r);
          }};
}

Registry<ScorerFactory>::Entry uniform() {
  return {{.name = "uniform",
           .summary = "the same logit for every expert, no parameters: for selectors that draw",
           .source = "Zuo et al. 2022, Taming Sparsely Activated Transformer with Stochastic Experts",
           .formula = "logits = 0",
           .parameters = {}},
          [](const Values&, const RouterSizes& s, RandomStream&) -> std::unique_ptr<Scorer> {
            return std::make_unique<UniformScorer>(s);
          }};
}

Registry<ScorerDecoratorFactory>::Entry residual_logits() {
  return {{.name = "residual_logits",
           .summary = "adds a share of the probabilities of the layer below",
           .source = "Qiu et al. 2024, Layerwise Recurrent Router for Mixture-of-Experts (an ablation)",
           .formula = "g_l = softmax(logits_l) + alpha g_(l-1);  logits' = ln g_l",
           .parameters = {{.name = "alpha",
                           .help = "share of the layer below",
                           .default_value = 0.5,
                           .min = 0,
                           .max = 100}},
           .across_layers = true},
          [](std::unique_ptr<Scorer> inner, const Values& v, const RouterSizes&,
             RandomStream&) -> std::unique_ptr<Scorer> {
            return std::make_unique<ResidualLogits>(std::move(inner), v.number("alpha"));
          }};
}

}  // namespace

const Registry<ScorerFactory>& scorers() {
  static const Registry<ScorerFactory> registry(
      "scorer",
      {
          {{.name = "linear",
            .summary = "one linear layer: the router of Switch, Mixtral, OLMoE, Qwen and DeepSeek",
            .source = "Shazeer et al. 2017, Outrageously Large Neural Networks, section 2.1",
            .formula = "logits = W h (+ b),  W [E, H]",
            .parameters =
                {{.name = "bias", .help = "add a learned bias for each expert", .default_value = false},
                 init_parameter(),
                 {.name = "init_rule",
                  .help = "initial weights: normal of standard deviation init, or uniform in +- 1 / sqrt(H), "
                          "the bias included",
                  .default_value = std::string("normal"),
                  .choices = {"normal", "kaiming_uniform"}}}},
           [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
             if (v.text("init_rule") == "kaiming_uniform")
               return LinearScorer::kaiming_uniform(s, v.flag("bias"), r);
             return std::make_unique<LinearScorer>(s, v.flag("bias"), v.number("init"), r);
           }},
          {{.name = "cosine",
            .summary = "cosine between a projected token and expert embeddings, over a learned temperature",
            .source =
                "Chi et al. 2022, On the Representation Collapse of Sparse Mixture of Experts, eq. 4 to 6",
            .formula = "logit_e = cos(P h, m_e) / temperature,  P [D, H], m [E, D]",
            .parameters = {{.name = "projection_size",
                            .help = "width D of the space in which angles are taken",
                            .default_value = int64_t{64},
                            .min = 1,
                            .max = 65536},
                           {.name = "temperature",
                            .help = "initial temperature; it is learned",
                            .default_value = 0.07,
                            .min = 0,
                            .max = 100,
                            .min_open = true}}},
           [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
             return std::make_unique<CosineScorer>(s, v.integer("projection_size"), v.number("temperature"),
                                                   r);
           }},
          {{.name = "mlp",
            .summary = "two layers with a nonlinearity between them",
            .source = "common practice",
            .formula = "logits = W2 act(W1 h + b1) + b2",
            .parameters = {{.name = "router_width",
                            .help = "width between the layers",
                            .default_value = int64_t{64},
                            .min = 1,
                            .max = 65536},
                           {.name = "router_activation",
                            .help = "nonlinearity between the layers",
                            .default_value = std::string("tanh"),
                            .choices = {"tanh", "relu", "silu"}},
                           init_parameter()}},
           [](const Values& v, const RouterSizes& s, RandomStream& r) -> std::unique_ptr<Scorer> {
             return std::make_unique<MlpScorer>(s, v.integer("router_width"),
                                                nonlinearity(v.text("router_activation")), v.number("init"),
                                                r);
           }},
          {{.name = "hash",
            .summary = "a fixed hash of the token id: no learning, a strong simple baseline",
            .source = "Roller et al. 2021, Hash Layers For Large Sparse Models",
            .formula = "logit_e = spread * uniform(hash(seed, layer, token id, e))",
            .parameters = {{.name = "hash_seed",
                            .help = "another seed gives another assignment of tokens",
                            .default_value = int64_t{0},
                            .min = 0,
                            .max = 9e15},
                           {.name = "spread",
                            .help = "logits lie in [0, spread); small means nearly equal weights",
                            .default_value = 0.001,
                            .min = 0,
                            .max = 100,
                            .min_open = true}}},
           [](const Values& v, const RouterSizes& s, RandomStream&) -> std::unique_ptr<Scorer> {
             return std::make_unique<HashScorer>(s, v.integer("hash_seed"), v.number("spread"));
           }},
          {{.name = "random",
            .summary = "new random logits at each call, whatever the token",
            .source = "common baseline",
            .formula = "logits ~ normal(0, std)",
            .parameters = {{.name = "std",
                            .help = "standard deviation of the logits",
                            .default_value = 1.0,
                            .min = 0,
                            .max = 100,
                            .min_open = true}}},
           [](const Values& v, const RouterSizes& s, RandomStream&) -> std::unique_ptr<Scorer> {
             return std::make_unique<RandomScorer>(s, v.number("std"));
           }},
          recurrent(),
          mixture(),
          fixed_linear(),
          uniform(),
          patch_linear(),
      });
  return registry;
}

const Registry<ScorerDecoratorFactory>& scorer_decorators() {
  // In the order in which they are put around the scorer, the innermost first.
  static const Registry<ScorerDecoratorFactory> registry(
      "decorator", {
                       {{.name = "jitter",
                         .summary = "in training, the router's input times uniform noise around 1",
                         .source = "Fedus et al. 2021, Switch Transformers, section 2.2",
                         .formula = "h' = h * uniform(1 - epsilon, 1 + epsilon)",
                         .parameters = {{.name = "epsilon",
                                         .help = "largest relative change",
                                         .default_value = 0.01,
                                         .min = 0,
                                         .max = 1}}},
                        [](std::unique_ptr<Scorer> inner, const Values& v, const RouterSizes&,
                           RandomStream&) -> std::unique_ptr<Scorer> {
                          return std::make_unique<Jitter>(std::move(inner), v.number("epsilon"));
                        }},
                       {{.name = "noise",
                         .summary = "in training, normal noise on the logits, of fixed or learned size",
                         .source = "Shazeer et al. 2017, Outrageously Large Neural Networks, eq. 4",
                         .formula = "logits' = logits + normal(0, 1) * (std, or softplus(W h) when learned)",
                         .parameters = {{.name = "std",
                                         .help = "standard deviation, when it is not learned",
                                         .default_value = 1.0,
                                         .min = 0,
                                         .max = 100},
                                        {.name = "learned",
                                         .help = "learn the size of the noise for each expert",
                                         .default_value = false}}},
                        [](std::unique_ptr<Scorer> inner, const Values& v, const RouterSizes& s,
                           RandomStream&) -> std::unique_ptr<Scorer> {
                          return std::make_unique<Noise>(std::move(inner), v.number("std"), v.flag("learned"),
                                                         s);
                        }},
                       residual_logits(),
                       {{.name = "logit_bias",
                         .summary = "fixed values added to the logits of a layer: steering by hand",
                         .source = "common practice",
                         .formula = "logits' = logits + bias",
                         .parameters = {{.name = "bias",
                                         .help = "one value for each expert",
                                         .default_value = std::vector<double>{},
                                         .required = true,
                                         .min = -1e4,
                                         .max = 1e4}}},
                        [](std::unique_ptr<Scorer> inner, const Values& v, const RouterSizes& s,
                           RandomStream&) -> std::unique_ptr<Scorer> {
                          return std::make_unique<LogitBias>(std::move(inner), v.numbers("bias"), s);
                        }},
                       {{.name = "omit",
                         .summary = "experts that cannot be chosen, as if they had been pruned",
                         .source = "common practice",
                         .formula = "logit_e' = -inf for e in experts",
                         .parameters = {{.name = "experts",
                                         .help = "expert ids",
                                         .default_value = std::vector<int64_t>{},
                                         .required = true,
                                         .min = 0,
                                         .max = 65536}}},
                        [](std::unique_ptr<Scorer> inner, const Values& v, const RouterSizes& s,
                           RandomStream&) -> std::unique_ptr<Scorer> {
                          return std::make_unique<Omit>(std::move(inner), v.integers("experts"), s);
                        }},
                   });
  return registry;
}

}  // namespace gatewright
