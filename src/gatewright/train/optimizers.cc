#include "gatewright/train/adafactor.h"
#include "gatewright/train/adamw.h"

namespace gatewright {
namespace {

Parameter share(const char* name, const char* help, double value) {
  return {.name = name, .help = help, .default_value = value, .min = 0, .max = 1, .max_open = true};
}

Parameter weight_decay(double value) {
  return {.name = "weight_decay",
          .help = "decoupled weight decay of matrices",
          .default_value = value,
          .min = 0,
          .max = 10};
}

Registry<OptimizerFactory>::Entry adamw() {
  const AdamWOptions defaults;
  return {{.name = "adamw",
           .summary = "two moments of the gradient for each weight, decoupled weight decay",
           .source = "Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization",
           .formula = "m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  both over 1 - beta^t\n"
                      "w -= rate (m / (sqrt(v) + epsilon) + weight_decay w)",
           .parameters = {share("beta1", "decay of the first moment", defaults.beta1),
                          share("beta2", "decay of the second moment", defaults.beta2),
                          {.name = "epsilon",
                           .help = "added to the root of the second moment",
                           .default_value = defaults.epsilon,
                           .min = 0,
                           .max = 1,
                           .min_open = true},
                          weight_decay(defaults.weight_decay)}},
          [](const ParameterList& parameters, const Values& v) -> std::unique_ptr<Optimizer> {
            return std::make_unique<AdamW>(parameters,
                                           AdamWOptions{.beta1 = v.number("beta1"),
                                                        .beta2 = v.number("beta2"),
                                                        .epsilon = v.number("epsilon"),
                                                        .weight_decay = v.number("weight_decay")});
          }};
}

Registry<OptimizerFactory>::Entry adafactor() {
  const AdafactorOptions defaults;
  return {
      {.name = "adafactor",
       .summary = "the second moment of rows and columns only, updates relative to a matrix's size; OpenMoE",
       .source = "Shazeer and Stern 2018, Adafactor, algorithm 4",
       .formula = "R, C = moving means of g^2 over rows and columns, keeping 1 - t^-decay_rate\n"
                  "u = g / sqrt(R C / mean(R)), at most clip_threshold in root mean square\n"
                  "w -= rate max(rms(w), epsilon2) u",
       .parameters = {{.name = "decay_rate",
                       .help = "how fast the moving mean slows down; 0.8 is the paper's",
                       .default_value = defaults.decay_rate,
                       .min = 0,
                       .max = 1,
                       .min_open = true},
                      {.name = "clip_threshold",
                       .help = "largest root mean square of a matrix's update; 0: no limit",
                       .default_value = defaults.clip_threshold,
                       .min = 0,
                       .max = 1e6},
                      {.name = "scale_parameter",
                       .help = "updates are relative to the root mean square of their matrix",
                       .default_value = defaults.scale_parameter},
                      {.name = "epsilon2",
                       .help = "least root mean square that updates are relative to",
                       .default_value = defaults.epsilon2,
                       .min = 0,
                       .max = 1,
                       .min_open = true},
                      weight_decay(defaults.weight_decay)}},
      [](const ParameterList& parameters, const Values& v) -> std::unique_ptr<Optimizer> {
        return std::make_unique<Adafactor>(parameters,
                                           AdafactorOptions{.decay_rate = v.number("decay_rate"),
                                                            .clip_threshold = v.number("clip_threshold"),
                                                            .epsilon2 = v.number("epsilon2"),
                                                            .scale_parameter = v.flag("scale_parameter"),
                                                            .weight_decay = v.number("weight_decay")});
      }};
}

}  // namespace

const Registry<OptimizerFactory>& optimizers() {
  static const Registry<OptimizerFactory> registry("optimiser", {adamw(), adafactor()});
  return registry;
}

}  // namespace gatewright
