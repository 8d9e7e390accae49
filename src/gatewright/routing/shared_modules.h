// What the routers of one network share: modules whose parameters exist once, and the state that a forward
// pass hands from layer to layer.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "gatewright/routing/named_tensor.h"

namespace gatewright {

/// Tensors that the routers of one forward pass leave for those of later layers, a row for each token, by
/// name. Nothing of it outlives the pass.
using CarriedState = std::map<std::string, Tensor, std::less<>>;

/// The state left under a name, or an undefined tensor: the pass has just begun, or nobody carries it.
Tensor carried(const CarriedState* state, std::string_view name);

class SharedModule {
 public:
  virtual ~SharedModule() = default;
  /// Appends the parameters, named prefix + ".weight" and so on.
  virtual void collect(ParameterList& parameters, const std::string& prefix) const = 0;
};

/// The modules of a network by name; the first router that asks for one makes it.
class SharedModules {
 public:
  /// Initial weights come from streams of `seed` named after the modules.
  explicit SharedModules(uint64_t seed) : seed_(seed) {}

  /// The module of this name, made by make(RandomStream&) when there is none. One of another type is an
  /// error.
  template <typename T, typename Make>
  std::shared_ptr<T> get(const std::string& name, const Make& make) {
    std::shared_ptr<SharedModule>& slot = modules_[name];
    if (!slot) {
      RandomStream random(seed_, name);
      slot = make(random);
    }
    auto module = std::dynamic_pointer_cast<T>(slot);
    if (!module) refuse(name);
    return module;
  }
  /// Appends the parameters of all, named prefix + name + ".weight" and so on.
  void collect(ParameterList& parameters, const std::string& prefix) const;

 private:
  [[noreturn]] static void refuse(const std::string& name);

  uint64_t seed_;
  std::map<std::string, std::shared_ptr<SharedModule>> modules_;
};

}  // namespace gatewright
