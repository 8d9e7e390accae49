// Attention of a few new tokens to all that a key-value cache holds: one pass over the keys and one over the
// values, where they lie.
#pragma once

#include <cstdint>

namespace gatewright::kernels {

/// Query i of a row is at position before + i and sees the keys max(first_key[i], before + i - window + 1) to
/// before + i. In a tree it is at before + depth[i], and of the N new keys it sees those of `sees`.
struct CachedAttentionSizes {
  int64_t batch = 0;     // B
  int64_t queries = 0;   // N
  int64_t heads = 0;     // Q, a multiple of kv_heads; head q reads key-value head q / (Q / K)
  int64_t kv_heads = 0;  // K
  int64_t head_dim = 0;  // D
  int64_t capacity = 0;  // C, at least before + N
  int64_t before = 0;
  int64_t window = 0;  // 0: all
  float scale = 1;
  const int32_t* first_key = nullptr;  // [B, N]; null: 0
  const float* sinks = nullptr;        // [Q], logits that join a softmax's sum and have no value; null: none
  const int32_t* depth = nullptr;      // [N], of a tree of at most 64 new tokens; null: they are a text
  const uint64_t* sees = nullptr;      // [N], bit j: query i sees new key j, which is at most i
};

/// q and out [B, N, Q, D], keys and values [B, C, K, D]. The same bits in any number of threads.
void cached_attention(const CachedAttentionSizes& sizes, const float* q, const float* keys,
                      const float* values, float* out);

}  // namespace gatewright::kernels
