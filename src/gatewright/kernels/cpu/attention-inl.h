// Attention of one block of 32 queries of a head. Scores lie as a panel, a row for each key and a column for
// each query, so that softmax needs no sums across a vector, and every product is the tile's: keys and values
// are copied once a head into a layout that it reads both ways.
#if defined(GATEWRIGHT_KERNELS_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GATEWRIGHT_KERNELS_ATTENTION_INL_H_
#undef GATEWRIGHT_KERNELS_ATTENTION_INL_H_
#else
#define GATEWRIGHT_KERNELS_ATTENTION_INL_H_
#endif

#include <cmath>
#include <limits>

#include "gatewright/kernels/cpu/attention.h"
#include "gatewright/kernels/cpu/panel_product-inl.h"
#include "gatewright/kernels/cpu/scratch.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

/// Addresses of one row and one head.
struct Head {
  const AttentionSizes& s;
  int64_t row, head;
  int64_t query_stride() const { return s.heads * s.head_dim; }
  int64_t key_stride() const { return s.kv_heads * s.head_dim; }
  int64_t query(int64_t i) const { return ((row * s.length + i) * s.heads + head) * s.head_dim; }
  int64_t key(int64_t j) const {
    return ((row * s.length + j) * s.kv_heads + head / (s.heads / s.kv_heads)) * s.head_dim;
  }
  int64_t log_sum(int64_t i) const { return (row * s.heads + head) * s.length + i; }
  int64_t feature_blocks() const { return (s.head_dim + kPanel - 1) / kPanel; }
};

/// The rows of one head in blocks of 32 features, [D / 32][S][32]. Across, k being the features, it is the
/// tile's layout rows; along, k being the keys, its layout columns.
struct HeadRows {
  float* data;
  int64_t length;
  float* at(int64_t row, int64_t feature) const {
    return data + (feature / kPanel * length + row) * kPanel + feature % kPanel;
  }
};

HWY_INLINE HeadRows zero_head(const Head& h, Scratch& scratch) {
  const int64_t count = h.feature_blocks() * h.s.length * kPanel;
  const HeadRows rows = {scratch.floats(count), h.s.length};
  std::fill(rows.data, rows.data + count, 0.0f);
  return rows;
}

HWY_INLINE HeadRows copy_head(const Head& h, const float* keys, Scratch& scratch) {
  const HeadRows to = {scratch.floats(h.feature_blocks() * h.s.length * kPanel), h.s.length};
  for (int64_t f = 0; f < h.s.head_dim; f += kPanel) {
    for (int64_t j = 0; j < h.s.length; ++j)
      copy_row(keys + h.key(j) + f, std::min(kPanel, h.s.head_dim - f), to.at(j, f));
  }
  return to;
}

HWY_INLINE void write_head(const Head& h, const HeadRows& from, float* keys) {
  for (int64_t f = 0; f < h.s.head_dim; f += kPanel) {
    for (int64_t j = 0; j < h.s.length; ++j)
      copy_row(from.at(j, f), std::min(kPanel, h.s.head_dim - f), keys + h.key(j) + f);
  }
}

/// Queries [begin, begin + queries) of a row, at most 32, and the keys [key_begin, key_begin + keys) that any
/// of them sees. Query i sees the keys first[i] to last[i], counted from key_begin; those from seen_begin to
/// seen_end - 1 are seen by all.
struct Block {
  int64_t begin, queries, key_begin, keys, seen_begin, seen_end;
  HWY_ALIGN float first[kPanel];
  HWY_ALIGN float last[kPanel];
};

HWY_INLINE Block block_at(const Head& h, int64_t begin) {
  Block b = {};
  b.begin = begin;
  b.queries = std::min(kPanel, h.s.length - begin);
  const auto first_seen = [&](int64_t i) {
    const int64_t document = h.s.first_key ? h.s.first_key[h.row * h.s.length + i] : 0;
    return h.s.window > 0 ? std::max(document, i - h.s.window + 1) : document;
  };
  b.key_begin = begin;
  for (int64_t i = begin; i < begin + b.queries; ++i) b.key_begin = std::min(b.key_begin, first_seen(i));
  b.keys = begin + b.queries - b.key_begin;
  b.seen_end = begin + 1 - b.key_begin;
  for (int64_t i = 0; i < kPanel; ++i) {
    const int64_t query = begin + std::min(i, b.queries - 1);  // columns beyond the last query repeat it
    const int64_t first = first_seen(query) - b.key_begin;
    b.seen_begin = std::max(b.seen_begin, first);
    b.first[i] = static_cast<float>(first);
    b.last[i] = static_cast<float>(query - b.key_begin);
  }
  return b;
}

/// Calls body(j, sees_all) for every key and tells whether all queries see it.
template <typename Body>
HWY_INLINE void for_each_key(const Block& b, const Body& body) {
  for (int64_t j = 0; j < b.keys; ++j) body(j, j >= b.seen_begin && j < b.seen_end);
}

/// x where the queries of this vector see key j, otherwise `hidden`.
HWY_INLINE FloatVec where_seen(const Block& b, int64_t column, int64_t j, FloatVec x, FloatVec hidden) {
  const FloatTag d;
  const FloatVec key = hn::Set(d, static_cast<float>(j));
  const auto seen =
      hn::And(hn::Le(hn::Load(d, b.first + column), key), hn::Le(key, hn::Load(d, b.last + column)));
  return hn::IfThenElse(seen, x, hidden);
}

/// scores[j][i] = exp(scale scores[j][i] - shift[i]), 0 where i does not see j; inverse[i] is 1 over the sum
/// of a column, log_sum[i] the logarithm of the sum before the shift. A column of -inf becomes zeros.
HWY_NOINLINE void softmax_columns(const Block& b, float scale, float* scores, float* inverse,
                                  float* log_sum) {
  const FloatTag d;
  const FloatVec lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  const FloatVec zero = hn::Zero(d), factor = hn::Set(d, scale);
  for (int64_t column = 0; column < kPanel; column += lanes()) {
    FloatVec largest = lowest, sum = zero;
    for_each_key(b, [&](int64_t j, bool all) HWY_ATTR {
      FloatVec x = hn::LoadU(d, scores + j * kPanel + column);
      if (!all) x = where_seen(b, column, j, x, lowest);
      largest = hn::Max(largest, x);
    });
    const FloatVec shift = hn::IfThenElse(hn::Eq(largest, lowest), zero, hn::Mul(largest, factor));
    for_each_key(b, [&](int64_t j, bool all) HWY_ATTR {
      float* at = scores + j * kPanel + column;
      FloatVec e = hn::Exp(d, hn::MulSub(hn::LoadU(d, at), factor, shift));
      if (!all) e = where_seen(b, column, j, e, zero);
      sum = hn::Add(sum, e);
      hn::StoreU(e, d, at);
    });
    const FloatVec one = hn::Set(d, 1.0f);
    hn::StoreU(hn::IfThenElse(hn::Eq(sum, zero), zero, hn::Div(one, sum)), d, inverse + column);
    hn::StoreU(hn::Add(shift, hn::Log(d, sum)), d, log_sum + column);
  }
}

/// scores become the probabilities p, grad_scores p (grad_p - mean) scale, where grad_p is what they were.
HWY_NOINLINE void backward_columns(const Block& b, float scale, const float* log_sum, const float* mean,
                                   float* scores, float* grad_scores) {
  const FloatTag d;
  const FloatVec zero = hn::Zero(d), factor = hn::Set(d, scale);
  for (int64_t column = 0; column < kPanel; column += lanes()) {
    const FloatVec shift = hn::LoadU(d, log_sum + column), center = hn::LoadU(d, mean + column);
    for_each_key(b, [&](int64_t j, bool all) HWY_ATTR {
      const int64_t at = j * kPanel + column;
      FloatVec p = hn::Exp(d, hn::MulSub(hn::LoadU(d, scores + at), factor, shift));
      if (!all) p = where_seen(b, column, j, p, zero);
      const FloatVec slope = hn::Mul(hn::Sub(hn::LoadU(d, grad_scores + at), center), factor);
      hn::StoreU(p, d, scores + at);
      hn::StoreU(hn::Mul(p, slope), d, grad_scores + at);
    });
  }
}

// --- products; a panel has 32 columns, one for each query ---

/// to[j][i] = sum over features of a[first + j][f] panel[f][i], for j < count.
HWY_INLINE void row_products(const HeadRows& a, int64_t first, int64_t count, int64_t features,
                             const float* panel, float* to) {
  const int64_t tiles = num_tiles(count);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = tile_begin(count, tiles, t), end = tile_begin(count, tiles, t + 1);
    tile_columns<Layout::rows>(static_cast<int>(end - row), kPanel,
                               {.k = features,
                                .a = a.at(first + row, 0),
                                .a_block_stride = a.length * kPanel,
                                .b = panel,
                                .b_stride = kPanel,
                                .c = to + row * kPanel,
                                .c_stride = kPanel,
                                .accumulate = false});
  }
}

/// to[f][i] = sum over j < count of a[first + j][f] panel[j][i].
HWY_INLINE void column_products(const HeadRows& a, int64_t first, int64_t count, int64_t features,
                                const float* panel, float* to) {
  for (int64_t f0 = 0; f0 < features; f0 += kPanel) {
    const int64_t rows = std::min(kPanel, features - f0), tiles = num_tiles(rows);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = tile_begin(rows, tiles, t), end = tile_begin(rows, tiles, t + 1);
      tile_columns<Layout::columns>(static_cast<int>(end - row), kPanel,
                                    {.k = count,
                                     .a = a.at(first, f0 + row),
                                     .a_block_stride = 0,
                                     .b = panel,
                                     .b_stride = kPanel,
                                     .c = to + (f0 + row) * kPanel,
                                     .c_stride = kPanel,
                                     .accumulate = false,
                                     .prefetch = {},
                                     .a_step = kPanel});
    }
  }
}

/// to[first + j][f] += sum over the queries i of panel[j][i] rows[i][f], for j < count; rows are blocks of 32
/// features, [D / 32][32][32].
HWY_INLINE void add_row_products(const float* panel, int64_t count, int64_t queries, const float* rows,
                                 int64_t features, const HeadRows& to, int64_t first) {
  const int64_t tiles = num_tiles(count);
  for (int64_t f = 0; f < features; f += kPanel) {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t row = tile_begin(count, tiles, t), end = tile_begin(count, tiles, t + 1);
      tile_columns<Layout::rows>(static_cast<int>(end - row), kPanel,
                                 {.k = queries,
                                  .a = panel + row * kPanel,
                                  .a_block_stride = 0,
                                  .b = rows + f * kPanel,
                                  .b_stride = kPanel,
                                  .c = to.at(first + row, f),
                                  .c_stride = kPanel,
                                  .accumulate = true});
    }
  }
}

/// A block's queries as a panel of columns, [D][32].
HWY_INLINE void columns_of(const Head& h, const Block& b, const float* q, float* to) {
  pack_panel([&](int64_t i) { return q + h.query(b.begin + i); }, b.queries, h.s.head_dim, to);
}

/// A block's queries as [D / 32][32][32].
HWY_INLINE void rows_of(const Head& h, const Block& b, const float* q, float* to) {
  for (int64_t f = 0; f < h.s.head_dim; f += kPanel) {
    const int64_t count = std::min(kPanel, h.s.head_dim - f);
    for (int64_t i = 0; i < b.queries; ++i) {
      float* row = to + (f + i) * kPanel;
      copy_row(q + h.query(b.begin + i) + f, count, row);
      std::fill(row + count, row + kPanel, 0.0f);
    }
  }
}

// --- the passes ---

struct AttentionForward {
  HeadRows keys, values;
  const float* q;
  float *out, *log_sum;
  float *scores, *columns;  // [S][32], [D][32]
};

HWY_INLINE void forward_block(const Head& h, const Block& b, const AttentionForward& t) {
  const int64_t features = h.s.head_dim;
  HWY_ALIGN float inverse[kPanel];
  HWY_ALIGN float log_sum[kPanel];
  columns_of(h, b, t.q, t.columns);
  row_products(t.keys, b.key_begin, b.keys, features, t.columns, t.scores);
  softmax_columns(b, h.s.scale, t.scores, inverse, log_sum);
  column_products(t.values, b.key_begin, b.keys, features, t.scores, t.columns);
  const FloatTag d;
  for (int64_t column = 0; column < kPanel; column += lanes()) {
    const FloatVec factor = hn::Load(d, inverse + column);
    for (float* at = t.columns + column; at < t.columns + features * kPanel; at += kPanel)
      hn::StoreU(hn::Mul(hn::LoadU(d, at), factor), d, at);
  }
  unpack_panel(t.columns, b.queries, features, t.out + h.query(b.begin), h.query_stride());
  std::copy(log_sum, log_sum + b.queries, t.log_sum + h.log_sum(b.begin));
}

struct AttentionBackward {
  HeadRows keys, values, grad_keys, grad_values;
  const float *q, *out, *log_sum, *grad_out;
  float* grad_q;
  float *scores, *grad_scores;  // [S][32]
  float *columns, *rows;        // [D][32], [D / 32][32][32]
};

HWY_INLINE float dot(const float* a, const float* b, int64_t count) {
  const FloatTag d;
  FloatVec sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes() <= count; i += lanes()) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float result = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) result += a[i] * b[i];
  return result;
}

/// With p = softmax(scale q k): d score = p (d p - sum(p d p)) scale, where the sum is out . grad_out.
HWY_INLINE void backward_block(const Head& h, const Block& b, const AttentionBackward& t) {
  const int64_t features = h.s.head_dim, key = b.key_begin, n = b.keys;
  HWY_ALIGN float log_sum[kPanel] = {};
  HWY_ALIGN float mean[kPanel] = {};
  for (int64_t i = 0; i < b.queries; ++i) {
    log_sum[i] = t.log_sum[h.log_sum(b.begin + i)];
    mean[i] = dot(t.out + h.query(b.begin + i), t.grad_out + h.query(b.begin + i), features);
  }
  columns_of(h, b, t.q, t.columns);
  row_products(t.keys, key, n, features, t.columns, t.scores);
  columns_of(h, b, t.grad_out, t.columns);
  row_products(t.values, key, n, features, t.columns, t.grad_scores);
  backward_columns(b, h.s.scale, log_sum, mean, t.scores, t.grad_scores);
  column_products(t.keys, key, n, features, t.grad_scores, t.columns);
  unpack_panel(t.columns, b.queries, features, t.grad_q + h.query(b.begin), h.query_stride());
  rows_of(h, b, t.q, t.rows);
  add_row_products(t.grad_scores, n, b.queries, t.rows, features, t.grad_keys, key);
  rows_of(h, b, t.grad_out, t.rows);
  add_row_products(t.scores, n, b.queries, t.rows, features, t.grad_values, key);
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard for each target
