// Learning-rate schedules: the factor of the peak rate at each step.
#pragma once

#include <functional>

#include "gatewright/base/registry.h"

namespace gatewright {

/// Factor in [0, 1] at `step` (0-based) of `steps`.
using Schedule = std::function<double(int64_t step, int64_t steps)>;
using ScheduleFactory = std::function<Schedule(const Values&)>;

/// The schedules by name: constant, cosine, linear, wsd, inverse_sqrt. Each starts with a linear warm-up over
/// `warmup_steps`.
const Registry<ScheduleFactory>& schedules();

}  // namespace gatewright
