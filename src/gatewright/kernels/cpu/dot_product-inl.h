// Products of a matrix that lies row by row with few rows of activations: C = W X^T, dot product by dot
// product. Vectors go along k on both sides, so that a weight is loaded once for several tokens and is never
// broadcast, and a number of tokens costs what it is, not what a whole vector of tokens would.
#if defined(GATEWRIGHT_KERNELS_DOT_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_DOT_PRODUCT_INL_H_
#undef GATEWRIGHT_KERNELS_DOT_PRODUCT_INL_H_
#else
#define GATEWRIGHT_KERNELS_DOT_PRODUCT_INL_H_
#endif

#include <utility>

#include "gatewright/kernels/cpu/panel_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int kDotRows = 3;         // of W in a tile
constexpr int kDotTokens = 8;       // of X in a tile: 24 sums in 32 registers
constexpr int64_t kDotDepth = 512;  // k between two writes of sums
// Up to so many rows an expert's products are dot products. With 16 registers there are too few sums for the
// loads.
constexpr int64_t kDotRowsOfExpert = kTileRows > 6 ? kPanel : 0;

/// Activations of at most kPanel tokens for dot products: for each block of kDotDepth features, the tokens'
/// rows of it one after another, with zeros up to whole vectors.
struct DotRows {
  float* data;
  int64_t features;
  int64_t tokens;

  int64_t depth(int64_t k0) const { return std::min(kDotDepth, features - k0); }
  int64_t stride(int64_t k0) const { return (depth(k0) + 15) & -16; }
  float* at(int64_t k0, int64_t token) const { return data + k0 * tokens + token * stride(k0); }

  /// copy(k0, depth) fills the rows of the features [k0, k0 + depth).
  template <typename Copy>
  void fill(const Copy& copy) const {
    for (int64_t k0 = 0; k0 < features; k0 += kDotDepth) {
      copy(k0, depth(k0));
      for (int64_t t = 0; t < tokens; ++t) std::fill(at(k0, t) + depth(k0), at(k0, t) + stride(k0), 0.0f);
    }
  }
};

HWY_INLINE DotRows new_dot_rows(Scratch& scratch, int64_t features, int64_t tokens) {
  return {scratch.floats((features + 16) * tokens), features, tokens};
}

/// The rows `row(t)` of the tokens.
template <typename Row>
void gather_dot_rows(const Row& row, const DotRows& to) {
  to.fill([&](int64_t k0, int64_t depth) {
    for (int64_t t = 0; t < to.tokens; ++t) copy_row(row(t) + k0, depth, to.at(k0, t));
  });
}

HWY_INLINE void panel_to_dot_rows(const Panels& panel, const DotRows& to) {
  to.fill([&](int64_t k0, int64_t depth) {
    unpack_panel(panel.at(0, k0), to.tokens, depth, to.at(k0, 0), to.stride(k0));
  });
}

HWY_INLINE FloatVec load_first(FloatTag d, const float* from, int64_t count) {
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, from);
}
HWY_INLINE FloatVec load_first(FloatTag d, const BFloat16* from, int64_t count) {
  HWY_ALIGN float values[16] = {};
  copy_row(from, count, values);
  return hn::Load(d, values);
}

/// The sums over the lanes of four vectors.
#if HWY_TARGET == HWY_SCALAR
struct FourSums {
  float of[4];
};
HWY_INLINE FourSums sums_of_lanes(FloatVec a, FloatVec b, FloatVec c, FloatVec e) {
  return {{hn::GetLane(a), hn::GetLane(b), hn::GetLane(c), hn::GetLane(e)}};
}
#else
template <class D>
HWY_INLINE hn::Vec<QuadTag> sum_of_blocks(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return sum_of_blocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
struct FourSums {
  HWY_ALIGN float of[4];
};
HWY_INLINE FourSums sums_of_lanes(FloatVec a, FloatVec b, FloatVec c, FloatVec e) {
  const FloatTag d;
  const hn::RepartitionToWide<FloatTag> pairs;
  const auto ab = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  const auto ce = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e)));
  const auto sum = hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, ab, ce)),
                           hn::BitCast(d, hn::InterleaveUpper(pairs, ab, ce)));
  FourSums result;
  hn::Store(sum_of_blocks(d, sum), QuadTag(), result.of);
  return result;
}
#endif

template <typename T>
struct DotTile {
  int64_t k;
  const T* w;
  int64_t w_stride;
  const float* x;
  int64_t x_stride;
  float* c;  // rows of 32 tokens
  bool accumulate;
  const char*
      ahead;  // what is brought into the L2 cache meanwhile; it may lie beyond the end of what there is
  int64_t ahead_step;  // bytes for each vector of k
};

template <typename T, int kRows, int kTokens>
HWY_NOINLINE void dot_tile(const DotTile<T>& t) {
  const FloatTag d;
  const int64_t n = lanes();
  FloatVec sum[kRows][(kTokens + 3) / 4 * 4];
#pragma GCC unroll 3
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < (kTokens + 3) / 4 * 4; ++j) sum[i][j] = hn::Zero(d);
  }
  const auto step = [&](int64_t k, const FloatVec(&w)[kRows]) HWY_ATTR {
#pragma GCC unroll 8
    for (int j = 0; j < kTokens; ++j) {
      const FloatVec x = hn::Load(d, t.x + j * t.x_stride + k);
#pragma GCC unroll 3
      for (int i = 0; i < kRows; ++i) sum[i][j] = hn::MulAdd(w[i], x, sum[i][j]);
    }
  };
  int64_t k = 0;
  const char* ahead = t.ahead;
  FloatVec w[kRows];
  for (; k + n <= t.k; k += n) {
#pragma GCC unroll 3
    for (int i = 0; i < kRows; ++i) {
      const T* from = t.w + i * t.w_stride + k;
      w[i] = load(d, from);
    }
    step(k, w);
    constexpr int64_t kLine = 64;
    __builtin_prefetch(ahead, 0, 2);
    __builtin_prefetch(ahead + kLine, 0, 2);
    if (t.ahead_step > 2 * kLine) __builtin_prefetch(ahead + 2 * kLine, 0, 2);
    ahead += t.ahead_step;
  }
  if (k < t.k) {
#pragma GCC unroll 3
    for (int i = 0; i < kRows; ++i) w[i] = load_first(d, t.w + i * t.w_stride + k, t.k - k);
    step(k, w);
  }
#pragma GCC unroll 3
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kTokens; j += 4) {
      const FourSums four = sums_of_lanes(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
      float* c = t.c + i * kPanel + j;
      for (int q = 0; q < std::min(4, kTokens - j); ++q) c[q] = t.accumulate ? c[q] + four.of[q] : four.of[q];
    }
  }
}

template <typename T>
using DotTileFunction = void (*)(const DotTile<T>&);

template <typename T, int... kIndex>
HWY_INLINE DotTileFunction<T> dot_tile_of(int64_t rows, int64_t tokens,
                                          std::integer_sequence<int, kIndex...>) {
  static constexpr DotTileFunction<T> table[] = {
      dot_tile<T, kIndex / kDotTokens + 1, kIndex % kDotTokens + 1>...};
  return table[(rows - 1) * kDotTokens + tokens - 1];
}

/// C[i, :] = sum_k W(i, k) X[:, k] for i in [0, rows), W row by row, `stride` elements from one to the next.
/// X's tokens are one panel of C.
template <typename T>
HWY_NOINLINE void dot_product(const T* w, int64_t stride, int64_t rows, const DotRows& x, const Panels& c) {
  if constexpr (kDotRowsOfExpert > 0) {
    constexpr auto all = std::make_integer_sequence<int, kDotRows * kDotTokens>();
    // Up to 16 tokens stay in the L1 cache and rows of W pass by; of more, a few at a time pass by some rows
    // of W.
    const int64_t block = x.tokens <= 16 ? kDotRows : 4 * kDotRows;
    const int64_t token_tiles = num_tiles(x.tokens, kDotTokens);
    for (int64_t k0 = 0; k0 < x.features; k0 += kDotDepth) {
      const int64_t depth = x.depth(k0);
      for (int64_t first = 0; first < rows; first += block) {
        const int64_t count = std::min(block, rows - first), row_tiles = num_tiles(count, kDotRows);
        // The tiles share the work of fetching a block of W, the second after this one, in the order of
        // memory.
        const auto* ahead = reinterpret_cast<const char*>(w + (first + 2 * block) * stride + k0);
        const int64_t ahead_bytes =
            count * depth * static_cast<int64_t>(sizeof(T)) / (token_tiles * row_tiles);
        for (int64_t j = 0; j < token_tiles; ++j) {
          const int64_t token = tile_begin(x.tokens, token_tiles, j);
          const int64_t width = tile_begin(x.tokens, token_tiles, j + 1) - token;
          for (int64_t i = 0; i < row_tiles; ++i, ahead += ahead_bytes) {
            const int64_t row = first + tile_begin(count, row_tiles, i);
            const int64_t height = first + tile_begin(count, row_tiles, i + 1) - row;
            dot_tile_of<T>(height, width, all)({.k = depth,
                                                .w = w + row * stride + k0,
                                                .w_stride = stride,
                                                .x = x.at(k0, token),
                                                .x_stride = x.stride(k0),
                                                .c = c.at(0, row) + token,
                                                .accumulate = k0 > 0,
                                                .ahead = ahead,
                                                .ahead_step = ahead_bytes * lanes() / depth});
          }
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
