#include "gatewright/kernels/cpu/cached_attention.h"

#include <algorithm>
#include <cmath>

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"
#include "gatewright/kernels/cpu/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/cached_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/row_lanes-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {
namespace {

/// scores[j] = exp(scores[j] - largest); their sum.
float exponentials(int64_t count, float largest, float* scores) {
  return sum_lanes(count, [=](auto d, int64_t j) HWY_ATTR {
    const auto e = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + j), hn::Set(d, largest)));
    hn::StoreU(e, d, scores + j);
    return e;
  });
}

/// out[i] = factor * sum over j of weights[j] rows[j * stride + i], for `Vectors` vectors at once.
template <int Vectors, class Tag>
HWY_INLINE void weighted_sum(Tag d, int64_t count, const float* weights, float factor, const float* rows,
                             int64_t stride, float* out) {
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<Tag> sum[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) sum[v] = hn::Zero(d);
  for (int64_t j = 0; j < count; ++j, rows += stride) {
    const auto weight = hn::Set(d, weights[j]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[v] = hn::MulAdd(weight, hn::LoadU(d, rows + v * n), sum[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) hn::StoreU(hn::Mul(sum[v], hn::Set(d, factor)), d, out + v * n);
}

/// The keys of one query: from `first` to before `last`, but for the new ones that a tree hides from it.
struct SeenKeys {
  int64_t first, last;
  const CachedAttentionSizes& sizes;
  int64_t query;  // among the new tokens

  bool sees(int64_t key) const {
    const int64_t added = key - sizes.before;
    if (!sizes.sees || added < 0) return true;
    const bool ancestor = (sizes.sees[query] >> added & 1) != 0;
    return ancestor && (sizes.window == 0 || sizes.depth[added] > sizes.depth[query] - sizes.window);
  }
};

SeenKeys seen_keys(const CachedAttentionSizes& s, int64_t token) {
  const int64_t query = token % s.queries, position = s.before + (s.depth ? s.depth[query] : query);
  int64_t first = s.first_key ? s.first_key[token] : 0;
  if (s.window > 0) first = std::max(first, position + 1 - s.window);
  if (s.depth) first = std::min(first, s.before);  // places of new keys are no positions
  return {.first = first, .last = s.before + query + 1, .sizes = s, .query = query};
}

void attend_head(const CachedAttentionSizes& s, const SeenKeys& seen, const float* q, const float* keys,
                 const float* values, const float* sink, float* scores, float* out) {
  constexpr float kHidden = -1e30F;
  const int64_t first = seen.first, last = seen.last;
  const int64_t step = s.kv_heads * s.head_dim, count = last - first;
  keys += first * step;
  values += first * step;
  float largest = sink ? *sink : -HUGE_VALF;
  for (int64_t j = 0; j < count; ++j) {
    if (!seen.sees(first + j)) {
      scores[j] = kHidden;
      continue;
    }
    const float* key = keys + j * step;
    scores[j] = s.scale * sum_lanes(s.head_dim, [=](auto d, int64_t i) HWY_ATTR {
                  return hn::Mul(hn::LoadU(d, q + i), hn::LoadU(d, key + i));
                });
    largest = std::max(largest, scores[j]);
  }
  const float sum = exponentials(count, largest, scores) + (sink ? std::exp(*sink - largest) : 0.0F);
  const RowTag d;
  const auto n = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + 4 * n <= s.head_dim; i += 4 * n)
    weighted_sum<4>(d, count, scores, 1 / sum, values + i, step, out + i);
  for (; i + n <= s.head_dim; i += n) weighted_sum<1>(d, count, scores, 1 / sum, values + i, step, out + i);
  for (; i < s.head_dim; ++i) weighted_sum<1>(OneTag(), count, scores, 1 / sum, values + i, step, out + i);
}

}  // namespace

void attend_cached(const CachedAttentionSizes& s, const float* q, const float* keys, const float* values,
                   float* out) {
  const int64_t group = s.heads / s.kv_heads, all = s.batch * s.queries * s.heads;
  // A head of a short text is done before another thread has woken.
  constexpr int64_t kValuesPerThread = 1 << 15;
  const int64_t grain = kValuesPerThread / std::max<int64_t>(1, (s.before + s.queries) * s.head_dim) + 1;
  parallel_for(0, all, grain, [&](int64_t begin, int64_t end) {
    Scratch scratch;
    float* scores = scratch.floats(s.before + s.queries);
    for (int64_t at = begin; at < end; ++at) {
      const int64_t head = at % s.heads, token = at / s.heads, row = token / s.queries;
      const int64_t lies = (row * s.capacity * s.kv_heads + head / group) * s.head_dim;
      attend_head(s, seen_keys(s, token), q + at * s.head_dim, keys + lies, values + lies,
                  s.sinks ? s.sinks + head : nullptr, scores, out + at * s.head_dim);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(attend_cached);

void cached_attention(const CachedAttentionSizes& sizes, const float* q, const float* keys,
                      const float* values, float* out) {
  HWY_DYNAMIC_DISPATCH(attend_cached)(sizes, q, keys, values, out);
}

}  // namespace gatewright::kernels
#endif
