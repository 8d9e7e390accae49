// The expert banks by name: the one list to touch when adding one.
#pragma once

#include <functional>
#include <memory>

#include "gatewright/base/random.h"
#include "gatewright/base/registry.h"
#include "gatewright/experts/expert_bank.h"
#include "gatewright/routing/router.h"

namespace gatewright {

using ExpertBankFactory =
    std::function<std::unique_ptr<ExpertBank>(const Values&, const ExpertSizes&, RandomStream&)>;
const Registry<ExpertBankFactory>& expert_banks();

/// Banks around a bank: shared.
using ExpertBankDecoratorFactory = std::function<std::unique_ptr<ExpertBank>(
    std::unique_ptr<ExpertBank>, const Values&, const ExpertSizes&, RandomStream&)>;
const Registry<ExpertBankDecoratorFactory>& expert_bank_decorators();

/// A bank by name with the decorators put around it in their order.
std::unique_ptr<ExpertBank> make_expert_bank(const Piece& bank, const std::vector<Piece>& decorators,
                                             const ExpertSizes& sizes, RandomStream& random);

}  // namespace gatewright
