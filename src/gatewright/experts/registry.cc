#include "gatewright/experts/registry.h"

#include "gatewright/experts/feed_forward.h"
#include "gatewright/experts/lora.h"
#include "gatewright/experts/mlp_union.h"
#include "gatewright/experts/shared.h"

namespace gatewright {
namespace {

std::vector<Parameter> feed_forward_parameters() {
  return {{.name = "width",
           .help = "width of one expert's hidden layer; 0 takes 4 x hidden (8/3 x hidden with a gate)",
           .default_value = int64_t{0},
           .min = 0,
           .max = 1 << 20},
          {.name = "biases", .help = "add a learned bias after each matrix", .default_value = false},
          {.name = "recompute",
           .help = "compute activations again in the backward pass instead of keeping them",
           .default_value = false},
          {.name = "init",
           .help = "standard deviation of the initial weights",
           .default_value = 0.02,
           .min = 0,
           .max = 10}};
}

/// Of a bank whose experts are feed-forwards of their own or slices of one.
std::vector<Parameter> bank_parameters() {
  std::vector<Parameter> parameters = feed_forward_parameters();
  parameters.push_back({.name = "dropout",
                        .help = "share left out in training, after the activation and after the sum",
                        .default_value = 0.0,
                        .min = 0,
                        .max = 1,
                        .max_open = true});
  return parameters;
}

FeedForwardOptions options_of(const Values& v, Activation activation) {
  return {.activation = activation,
          .width = v.integer("width"),
          .biases = v.flag("biases"),
          .recompute = v.flag("recompute"),
          .init = v.number("init")};
}

FeedForwardOptions bank_options(const Values& v, Activation activation) {
  FeedForwardOptions options = options_of(v, activation);
  options.dropout = v.number("dropout");
  return options;
}

ExpertBankFactory feed_forward(Activation activation) {
  return [activation](const Values& v, const ExpertSizes& s, RandomStream& r) -> std::unique_ptr<ExpertBank> {
    return std::make_unique<FeedForwardExperts>(s, bank_options(v, activation), r);
  };
}

Activation activation_of(const std::string& name) {
  if (name == "gelu") return Activation::gelu;
  if (name == "silu") return Activation::silu;
  return name == "relu" ? Activation::relu : Activation::swiglu;
}

std::vector<Parameter> shared_parameters() {
  std::vector<Parameter> parameters = feed_forward_parameters();
  parameters.insert(parameters.begin(),
                    {{.name = "num_shared",
                      .help = "shared experts; they are one feed-forward of num_shared x width",
                      .default_value = int64_t{1},
                      .min = 1,
                      .max = 1024},
                     {.name = "activation",
                      .help = "activation of the shared experts",
                      .default_value = std::string("swiglu"),
                      .choices = {"swiglu", "gelu", "relu", "silu"}},
                     {.name = "gate",
                      .help = "multiply their output by a learned sigmoid gate (Qwen2-MoE)",
                      .default_value = false},
                     {.name = "scale",
                      .help = "factor of their output; 0.5 with routing.scale = 0.5 gives the mean of both",
                      .default_value = 1.0,
                      .min = -1e6,
                      .max = 1e6},
                     {.name = "own_gain",
                      .help = "they read through a gain of their own, as after a norm of their own (OpenMoE)",
                      .default_value = false}});
  for (Parameter& p : parameters) {
    if (p.name != "width") continue;
    p.help = "width of one shared expert";
    p.default_value = int64_t{128};
    p.min = 1;
  }
  return parameters;
}

Registry<ExpertBankFactory>::Entry lora() {
  return {{.name = "lora",
           .summary = "low-rank adapters as experts on a frozen SwiGLU feed-forward",
           .source = "Li et al. 2024, MixLoRA; Mixture of Routers 2025, arXiv 2503.23362",
           .formula = "each map: W0 x + (lora_alpha / rank) sum_e w_e B_e A_e dropout(x),  W0 frozen",
           .parameters =
               {{.name = "width",
                 .help = "width of the frozen feed-forward; 0 takes 8/3 x hidden",
                 .default_value = int64_t{0},
                 .min = 0,
                 .max = 1 << 20},
                {.name = "rank",
                 .help = "inner width of one expert's adapters",
                 .default_value = int64_t{8},
                 .min = 1,
                 .max = 65536},
                {.name = "lora_alpha",
                 .help = "the adapters' sum is multiplied by lora_alpha / rank",
                 .default_value = 16.0,
                 .min = 0,
                 .max = 1e6},
                {.name = "dropout",
                 .help = "share of the adapters' input that is left out in training",
                 .default_value = 0.05,
                 .min = 0,
                 .max = 1,
                 .max_open = true},
                {.name = "adapted",
                 .help = "the maps that have adapters: of the feed-forward, and with routers of their own of "
                         "the attention",
                 .default_value = std::vector<std::string>{"gate", "up", "down"},
                 .choices = {std::begin(kLoraMaps), std::end(kLoraMaps)}},
                {.name = "init",
                 .help = "standard deviation of the frozen weights, until a model's are read",
                 .default_value = 0.02,
                 .min = 0,
                 .max = 10}}},
          [](const Values& v, const ExpertSizes& s, RandomStream& r) -> std::unique_ptr<ExpertBank> {
            return std::make_unique<LoraExperts>(s,
                                                 LoraOptions{.width = v.integer("width"),
                                                             .adapters = adapter_options(v),
                                                             .adapted = v.texts("adapted"),
                                                             .init = v.number("init")},
                                                 r);
          }};
}

Registry<ExpertBankFactory>::Entry union_bank() {
  std::vector<Parameter> parameters = bank_parameters();
  for (Parameter& p : parameters) {
    if (p.name == "width") p.help = "inner width of the whole, a multiple of num_experts; 0 takes 4 x hidden";
    if (p.name == "biases") p.default_value = true;
    if (p.name == "init") {
      p.help = "standard deviation of the initial weights; 0 takes Xavier's for one expert";
      p.default_value = 0.0;
    }
  }
  parameters.push_back({.name = "activation",
                        .help = "activation of the feed-forward",
                        .default_value = std::string("gelu"),
                        .choices = {"gelu", "relu", "silu", "swiglu"}});
  return {{.name = "mlp_union",
           .summary = "the slices of one dense feed-forward; all of them with weights of 1 are the whole",
           .source = "Union of Experts 2025, arXiv 2503.02495",
           .formula = "y = sum_e w_e W2_e act(W1_e x + b1_e) + b2,  W1_e rows and W2_e columns of one matrix",
           .parameters = std::move(parameters)},
          [](const Values& v, const ExpertSizes& s, RandomStream& r) -> std::unique_ptr<ExpertBank> {
            return std::make_unique<MlpUnion>(s, bank_options(v, activation_of(v.text("activation"))), r);
          }};
}

}  // namespace

const Registry<ExpertBankFactory>& expert_banks() {
  static const Registry<ExpertBankFactory> registry(
      "expert bank",
      {{{.name = "swiglu",
         .summary = "gated feed-forward: the experts of Mixtral, OLMoE, Qwen and DeepSeek",
         .source = "Shazeer 2020, GLU Variants Improve Transformer, eq. 6",
         .formula = "y = W_down (silu(W_gate x) * (W_up x)),  silu(z) = z / (1 + exp(-z))",
         .parameters = bank_parameters()},
        feed_forward(Activation::swiglu)},
       {{.name = "gelu",
         .summary = "feed-forward with the exact GELU",
         .source = "Hendrycks and Gimpel 2016, Gaussian Error Linear Units",
         .formula = "y = W_down gelu(W_up x),  gelu(z) = z (1 + erf(z / sqrt 2)) / 2",
         .parameters = bank_parameters()},
        feed_forward(Activation::gelu)},
       {{.name = "relu",
         .summary = "feed-forward with ReLU: the experts of Switch Transformer",
         .source = "Fedus et al. 2021, Switch Transformers, section 2",
         .formula = "y = W_down max(W_up x, 0)",
         .parameters = bank_parameters()},
        feed_forward(Activation::relu)},
       {{.name = "silu",
         .summary = "feed-forward with SiLU and no gate: the small experts of BlockFFN",
         .source = "Song et al. 2025, BlockFFN, section 3",
         .formula = "y = W_down silu(W_up x),  silu(z) = z / (1 + exp(-z))",
         .parameters = bank_parameters()},
        feed_forward(Activation::silu)},
       {{.name = "clamped_swiglu",
         .summary = "gated feed-forward with clamped values: the experts of GPT-OSS",
         .source = "OpenAI 2025, gpt-oss-120b and gpt-oss-20b Model Card",
         .formula = "y = W_down ((u + 1) g / (1 + exp(-1.702 g))),  g = min(W_gate x, 7), u = W_up x "
                    "in +- 7",
         .parameters = bank_parameters()},
        feed_forward(Activation::clamped_swiglu)},
       lora(),
       union_bank()});
  return registry;
}

const Registry<ExpertBankDecoratorFactory>& expert_bank_decorators() {
  static const Registry<ExpertBankDecoratorFactory> registry(
      "expert bank decorator",
      {{{.name = "shared",
         .summary = "adds dense experts that every token visits",
         .source = "Dai et al. 2024, DeepSeekMoE, eq. 9; the gate: Yang et al. 2024, Qwen2 Technical Report",
         .formula = "out = routed(x) + scale g ffn(x),  g = 1, or sigmoid(w . x) with gate",
         .parameters = shared_parameters()},
        [](std::unique_ptr<ExpertBank> routed, const Values& v, const ExpertSizes& s,
           RandomStream& r) -> std::unique_ptr<ExpertBank> {
          SharedOptions options = {.ffn = options_of(v, activation_of(v.text("activation"))),
                                   .gate = v.flag("gate"),
                                   .scale = v.number("scale"),
                                   .own_gain = v.flag("own_gain")};
          options.ffn.width *= v.integer("num_shared");
          return std::make_unique<SharedExperts>(std::move(routed), s, options, r);
        }}});
  return registry;
}

std::unique_ptr<ExpertBank> make_expert_bank(const Piece& bank, const std::vector<Piece>& decorators,
                                             const ExpertSizes& sizes, RandomStream& random) {
  std::unique_ptr<ExpertBank> made = expert_banks().at(bank.name).make(bank.values, sizes, random);
  for (const Piece& d : decorators)
    made = expert_bank_decorators().at(d.name).make(std::move(made), d.values, sizes, random);
  return made;
}

}  // namespace gatewright
