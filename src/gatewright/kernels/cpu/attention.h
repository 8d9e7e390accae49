// Causal attention of float32 heads, forward and backward, in blocks of queries: the scores of one block are
// all that is ever stored (after Dao et al. 2022, "FlashAttention").
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// Query i of a row sees the keys max(first_key[i], i - window + 1) .. i.
struct AttentionSizes {
  int64_t batch = 0;     // B
  int64_t length = 0;    // S
  int64_t heads = 0;     // Q, a multiple of kv_heads; head q reads key-value head q / (Q / K)
  int64_t kv_heads = 0;  // K
  int64_t head_dim = 0;  // D
  int64_t window = 0;    // 0: all
  float scale = 1;
  const int32_t* first_key = nullptr;  // [B, S], each in 0..i; null: 0
};

/// q and out [B, S, Q, D], k and v [B, S, K, D]; log_sum [B, Q, S] is left for the backward pass.
void attention_forward(const AttentionSizes& sizes, const float* q, const float* k, const float* v,
                       float* out, float* log_sum);
/// Writes grad_q, grad_k and grad_v. Every sum has one order, whatever the number of threads.
void attention_backward(const AttentionSizes& sizes, const float* q, const float* k, const float* v,
                        const float* out, const float* log_sum, const float* grad_out, float* grad_q,
                        float* grad_k, float* grad_v);

}  // namespace gatewright::kernels
