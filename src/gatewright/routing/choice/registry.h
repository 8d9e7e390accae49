// The selectors by name: the one list to touch when adding one.
#pragma once

#include <functional>
#include <memory>

#include "gatewright/base/registry.h"
#include "gatewright/routing/choice/selector.h"

namespace gatewright::choice {

using SelectorFactory = std::function<std::unique_ptr<Selector>(const Values&)>;
const Registry<SelectorFactory>& selectors();

using SelectorDecoratorFactory =
    std::function<std::unique_ptr<Selector>(std::unique_ptr<Selector>, const Values&)>;
const Registry<SelectorDecoratorFactory>& selector_decorators();

}  // namespace gatewright::choice
