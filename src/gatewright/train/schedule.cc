#include "gatewright/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace gatewright {
namespace {

Parameter warmup_parameter() {
  return {.name = "warmup_steps",
          .help = "steps over which the rate rises from 0",
          .default_value = int64_t{0},
          .min = 0,
          .max = 1e9};
}

Parameter floor_parameter() {
  return {.name = "final_factor",
          .help = "rate at the end over the peak rate",
          .default_value = 0.1,
          .min = 0,
          .max = 1};
}

/// Warm-up, then `after(progress)` with progress from 0 to 1 over the steps that are left.
template <typename After>
Schedule warmed_up(int64_t warmup, const After& after) {
  return [=](int64_t step, int64_t steps) {
    if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
    const auto left = static_cast<double>(std::max<int64_t>(1, steps - warmup));
    return after(std::clamp(static_cast<double>(step - warmup) / left, 0.0, 1.0));
  };
}

}  // namespace

const Registry<ScheduleFactory>& schedules() {
  static const Registry<ScheduleFactory> registry(
      "schedule",
      {
          {{.name = "constant",
            .summary = "the peak rate throughout, after the warm-up",
            .source = "common practice",
            .formula = "1",
            .parameters = {warmup_parameter()}},
           [](const Values& v) { return warmed_up(v.integer("warmup_steps"), [](double) { return 1.0; }); }},
          {{.name = "cosine",
            .summary = "half a cosine from the peak rate to the final one",
            .source = "Loshchilov and Hutter 2016, SGDR",
            .formula = "final + (1 - final) (1 + cos(pi progress)) / 2",
            .parameters = {warmup_parameter(), floor_parameter()}},
           [](const Values& v) {
             return warmed_up(v.integer("warmup_steps"), [least = v.number("final_factor")](double progress) {
               return least + (1 - least) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
             });
           }},
          {{.name = "linear",
            .summary = "a straight line from the peak rate to the final one",
            .source = "common practice",
            .formula = "1 - (1 - final) progress",
            .parameters = {warmup_parameter(), floor_parameter()}},
           [](const Values& v) {
             return warmed_up(v.integer("warmup_steps"), [least = v.number("final_factor")](double progress) {
               return 1 - (1 - least) * progress;
             });
           }},
          {{.name = "wsd",
            .summary = "warm-up, stable, decay: the peak rate, then a line down at the end",
            .source = "Hu et al. 2024, MiniCPM, section 4",
            .formula = "1 until progress 1 - decay_share, then a line to final",
            .parameters = {warmup_parameter(),
                           floor_parameter(),
                           {.name = "decay_share",
                            .help = "share of the steps in which the rate falls",
                            .default_value = 0.2,
                            .min = 0,
                            .max = 1,
                            .min_open = true}}},
           [](const Values& v) {
             return warmed_up(v.integer("warmup_steps"), [least = v.number("final_factor"),
                                                          share = v.number("decay_share")](double progress) {
               const double fallen = std::max(0.0, (progress - (1 - share)) / share);
               return 1 - (1 - least) * fallen;
             });
           }},
          {{.name = "inverse_sqrt",
            .summary = "the peak rate falls with the root of the steps since the beginning",
            .source = "Raffel et al. 2020, T5, section 3.1.2",
            .formula = "sqrt(warmup_steps / step) after the warm-up",
            .parameters = {warmup_parameter()}},
           [](const Values& v) -> Schedule {
             return [warmup = std::max<int64_t>(1, v.integer("warmup_steps"))](int64_t step, int64_t) {
               const auto done = static_cast<double>(step + 1), of = static_cast<double>(warmup);
               return done < of ? done / of : std::sqrt(of / done);
             };
           }},
      });
  return registry;
}

}  // namespace gatewright
