// What an expert bank may know besides tokens and assignment.
#pragma once

#include "gatewright/base/random.h"

namespace gatewright {

class ProductObserver;

struct ExpertContext {
  bool training = false;           // dropout works in training only
  RandomStream* random = nullptr;  // this layer's stream; needed by what draws
  /// Sees the products of experts that are feed-forwards of their own, shared ones too; null: nobody does.
  ProductObserver* observer = nullptr;
};

/// The stream; fails naming `what` when there is none.
RandomStream& stream_for(const ExpertContext& context, const char* what);

}  // namespace gatewright
