// Runs a test once for every processor target that this machine has.
#pragma once

#include <gtest/gtest.h>

#include "hwy/targets.h"

namespace gatewright::kernels {

template <typename Body>
void for_each_target(const Body& body) {
  for (int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    const int64_t target = rest & -rest;
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    body();
    hwy::SetSupportedTargetsForTest(0);
  }
}

}  // namespace gatewright::kernels
