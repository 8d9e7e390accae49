#include "gatewright/routing/shared_modules.h"

#include "gatewright/base/error.h"

namespace gatewright {

Tensor carried(const CarriedState* state, std::string_view name) {
  if (!state) return {};
  const auto found = state->find(name);
  return found == state->end() ? Tensor() : found->second;
}

void SharedModules::collect(ParameterList& parameters, const std::string& prefix) const {
  for (const auto& [name, module] : modules_) module->collect(parameters, prefix + name);
}

void SharedModules::refuse(const std::string& name) {
  fail("the routers of this network share a module {} of another kind; give one of them another name", name);
}

}  // namespace gatewright
