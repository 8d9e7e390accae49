// The expert banks by name: the one list to touch when adding one.
#pragma once

#include <functional>
#include <memory>

#include "gatewright/base/random.h"
#include "gatewright/base/registry.h"
#include "gatewright/experts/expert_bank.h"

namespace gatewright {

using ExpertBankFactory =
    std::function<std::unique_ptr<ExpertBank>(const Values&, const ExpertSizes&, RandomStream&)>;
const Registry<ExpertBankFactory>& expert_banks();

/// Banks around a bank: shared.
using ExpertBankDecoratorFactory = std::function<std::unique_ptr<ExpertBank>(
    std::unique_ptr<ExpertBank>, const Values&, const ExpertSizes&, RandomStream&)>;
const Registry<ExpertBankDecoratorFactory>& expert_bank_decorators();

}  // namespace gatewright
