// The output head, softmax and cross entropy of a language model in float32, in blocks of tokens: the logits
// of one block are all that is ever stored.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

struct HeadSizes {
  int64_t tokens = 0;      // T
  int64_t vocabulary = 0;  // V
  int64_t hidden = 0;      // H
};

/// With logits = hidden head^T: losses[t] = log(sum exp(logits[t])) - logits[t][targets[t]], 0 where the
/// target is -1. grad_hidden [T, H] and grad_head [V, H], each unless null, are the gradients of
/// scale * sum(losses). hidden [T, H] and head [V, H] are row-major, targets lie in -1..V - 1. Every sum has
/// one order, whatever the number of threads.
void linear_cross_entropy(const HeadSizes& sizes, const float* hidden, const float* head,
                          const int64_t* targets, float scale, float* losses, float* grad_hidden,
                          float* grad_head);

}  // namespace gatewright::kernels
