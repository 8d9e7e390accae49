// Linear maps and token embeddings. (Not named linear and embedding: those of at:: would be found as well.)
#pragma once

#include "gatewright/tensor.h"

namespace gatewright {

class ProductObserver;

/// x [..., I], weight [O, I] (packed_tensor.h too), bias [O] or undefined -> x weight^T + bias, [..., O], in
/// the type of x. `observer` (may be null) sees the product.
Tensor linear_layer(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                    ProductObserver* observer = nullptr);
/// tokens int64 of any shape, weight [V, H] -> [..., H]. The backward pass sums in one order.
Tensor embed_tokens(const Tensor& tokens, const Tensor& weight);

}  // namespace gatewright
