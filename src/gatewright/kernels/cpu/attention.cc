#include "gatewright/kernels/cpu/attention.h"

#include <cmath>
#include <limits>

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

/// Calls body(row, kv_head) for all pairs, spread over the threads.
template <typename Body>
void for_each_kv_head(const AttentionSizes& s, const Body& body) {
  parallel_for(0, s.batch * s.kv_heads, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(i / s.kv_heads, i % s.kv_heads);
  });
}

void attention_forward_on(const AttentionSizes& s, const float* q, const float* k, const float* v, float* out,
                          float* log_sum) {
  const int64_t group = s.heads / s.kv_heads;
  for_each_kv_head(s, [&](int64_t row, int64_t kv_head) {
    Scratch scratch;
    const Head first = {s, row, kv_head * group};
    const AttentionForward pass = {.keys = copy_head(first, k, scratch),
                                   .values = copy_head(first, v, scratch),
                                   .q = q,
                                   .out = out,
                                   .log_sum = log_sum,
                                   .scores = scratch.floats(s.length * kPanel),
                                   .columns = scratch.floats(s.head_dim * kPanel)};
    for (int64_t head = first.head; head < first.head + group; ++head) {
      for (int64_t begin = 0; begin < s.length; begin += kPanel) {
        const Head h = {s, row, head};
        forward_block(h, block_at(h, begin), pass);
      }
    }
  });
}

void attention_backward_on(const AttentionSizes& s, const float* q, const float* k, const float* v,
                           const float* out, const float* log_sum, const float* grad_out, float* grad_q,
                           float* grad_k, float* grad_v) {
  const int64_t group = s.heads / s.kv_heads;
  for_each_kv_head(s, [&](int64_t row, int64_t kv_head) {
    Scratch scratch;
    const Head first = {s, row, kv_head * group};
    const AttentionBackward pass = {.keys = copy_head(first, k, scratch),
                                    .values = copy_head(first, v, scratch),
                                    .grad_keys = zero_head(first, scratch),
                                    .grad_values = zero_head(first, scratch),
                                    .q = q,
                                    .out = out,
                                    .log_sum = log_sum,
                                    .grad_out = grad_out,
                                    .grad_q = grad_q,
                                    .scores = scratch.floats(s.length * kPanel),
                                    .grad_scores = scratch.floats(s.length * kPanel),
                                    .columns = scratch.floats(s.head_dim * kPanel),
                                    .rows = scratch.floats(first.feature_blocks() * kPanel * kPanel)};
    for (int64_t head = first.head; head < first.head + group; ++head) {
      for (int64_t begin = 0; begin < s.length; begin += kPanel) {
        const Head h = {s, row, head};
        backward_block(h, block_at(h, begin), pass);
      }
    }
    write_head(first, pass.grad_keys, grad_k);
    write_head(first, pass.grad_values, grad_v);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(attention_forward_on);
HWY_EXPORT(attention_backward_on);

void attention_forward(const AttentionSizes& s, const float* q, const float* k, const float* v, float* out,
                       float* log_sum) {
  HWY_DYNAMIC_DISPATCH(attention_forward_on)(s, q, k, v, out, log_sum);
}

void attention_backward(const AttentionSizes& s, const float* q, const float* k, const float* v,
                        const float* out, const float* log_sum, const float* grad_out, float* grad_q,
                        float* grad_k, float* grad_v) {
  HWY_DYNAMIC_DISPATCH(attention_backward_on)(s, q, k, v, out, log_sum, grad_out, grad_q, grad_k, grad_v);
}

}  // namespace gatewright::kernels
#endif
