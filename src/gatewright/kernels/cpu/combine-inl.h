// From one row for each pair back to one row for each token.
#if defined(GATEWRIGHT_KERNELS_COMBINE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_COMBINE_INL_H_
#undef GATEWRIGHT_KERNELS_COMBINE_INL_H_
#else
#define GATEWRIGHT_KERNELS_COMBINE_INL_H_
#endif

#include "gatewright/base/parallel.h"
#include "gatewright/kernels/cpu/ffn_plan.h"
#include "gatewright/kernels/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

/// out[i] = sum over pairs of weight * rows[pair * stride + i], in the order of `pair`; weight may be null.
template <typename T>
HWY_NOINLINE void combine_token(const int64_t* pair, int64_t pairs, const float* rows, int64_t width,
                                const float* weight, T* out) {
  const FloatTag d;
  const auto of_pair = [&](int64_t i) { return weight ? weight[pair[i]] : 1.0f; };
  int64_t at = 0;
  if constexpr (std::is_same_v<T, float>) {
    for (; at + lanes() <= width; at += lanes()) {
      FloatVec sum = hn::Zero(d);
      for (int64_t i = 0; i < pairs; ++i)
        sum = hn::MulAdd(hn::Set(d, of_pair(i)), hn::LoadU(d, rows + pair[i] * width + at), sum);
      hn::StoreU(sum, d, out + at);
    }
  }
  for (; at < width; ++at) {
    float sum = 0;
    for (int64_t i = 0; i < pairs; ++i) sum += of_pair(i) * rows[pair[i] * width + at];
    out[at] = from_float<T>(sum);
  }
}

/// out [T, width] from rows [N, width].
template <typename T>
void combine(const TokenIndex& index, const float* rows, int64_t width, const float* weight, T* out) {
  const auto tokens = static_cast<int64_t>(index.begin.size()) - 1;
  parallel_for(0, tokens, 16, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = index.begin[static_cast<size_t>(t)];
      const int64_t count = index.begin[static_cast<size_t>(t) + 1] - first;
      combine_token(index.pair.data() + first, count, rows, width, weight, out + t * width);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
