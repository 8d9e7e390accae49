#include "gatewright/kernels/cpu/attention.h"

#include <algorithm>
#include <limits>

#include "gatewright/base/parallel.h"
#include "gatewright/kernels/cpu/gemm.h"
#include "gatewright/kernels/cpu/rows.h"
#include "gatewright/kernels/cpu/scratch.h"

namespace gatewright::kernels {
namespace {

constexpr int64_t kQueryBlock = 64;

/// Queries [begin, end) of a row and the keys [key_begin, end) that any of them sees.
struct Block {
  int64_t begin, end, key_begin;
  int64_t queries() const { return end - begin; }
  int64_t keys() const { return end - key_begin; }
};

int64_t first_seen(const AttentionSizes& s, int64_t row, int64_t i) {
  const int64_t document = s.first_key ? s.first_key[row * s.length + i] : 0;
  return s.window > 0 ? std::max(document, i - s.window + 1) : document;
}

Block block_at(const AttentionSizes& s, int64_t row, int64_t begin) {
  Block block = {begin, std::min(begin + kQueryBlock, s.length), begin};
  for (int64_t i = block.begin; i < block.end; ++i)
    block.key_begin = std::min(block.key_begin, first_seen(s, row, i));
  return block;
}

/// Calls body(row, kv_head) for all pairs, spread over the threads.
template <typename Body>
void for_each_kv_head(const AttentionSizes& s, const Body& body) {
  parallel_for(0, s.batch * s.kv_heads, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) body(i / s.kv_heads, i % s.kv_heads);
  });
}

float dot(const float* a, const float* b, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

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
};

void forward_block(const Head& h, const Block& b, const float* q, const float* k, const float* v, float* out,
                   float* log_sum, float* scores) {
  const int64_t n = b.keys(), d = h.s.head_dim;
  gemm_nt(b.queries(), n, d, q + h.query(b.begin), h.query_stride(), k + h.key(b.key_begin), h.key_stride(),
          scores, n, false);
  for (int64_t i = b.begin; i < b.end; ++i) {
    float* row = scores + (i - b.begin) * n;
    const int64_t from = first_seen(h.s, h.row, i) - b.key_begin, to = i + 1 - b.key_begin;
    std::fill(row, row + from, 0.0f);
    log_sum[h.log_sum(i)] = softmax_row(row + from, to - from, h.s.scale);
    std::fill(row + to, row + n, 0.0f);
  }
  gemm_nn(b.queries(), d, n, scores, n, v + h.key(b.key_begin), h.key_stride(), out + h.query(b.begin),
          h.query_stride(), false);
}

struct Backward {
  const float *q, *k, *v, *out, *log_sum, *grad_out;
  float *grad_q, *grad_k, *grad_v;
};

void backward_block(const Head& h, const Block& b, const Backward& t, float* p, float* ds) {
  const int64_t m = b.queries(), n = b.keys(), d = h.s.head_dim;
  const int64_t query = h.query(b.begin), key = h.key(b.key_begin);
  const int64_t lq = h.query_stride(), lk = h.key_stride();
  gemm_nt(m, n, d, t.q + query, lq, t.k + key, lk, p, n, false);
  gemm_nt(m, n, d, t.grad_out + query, lq, t.v + key, lk, ds, n, false);
  for (int64_t i = b.begin; i < b.end; ++i) {
    float *p_row = p + (i - b.begin) * n, *ds_row = ds + (i - b.begin) * n;
    const int64_t from = first_seen(h.s, h.row, i) - b.key_begin, to = i + 1 - b.key_begin;
    const float mean = dot(t.out + h.query(i), t.grad_out + h.query(i), d);
    exp_row(p_row + from, to - from, h.s.scale, t.log_sum[h.log_sum(i)]);
    std::fill(p_row, p_row + from, 0.0f);
    std::fill(p_row + to, p_row + n, 0.0f);
    // d score = p (d p - sum(p d p)), where the sum is out . grad_out
    for (int64_t j = from; j < to; ++j) ds_row[j] = p_row[j] * (ds_row[j] - mean) * h.s.scale;
    std::fill(ds_row, ds_row + from, 0.0f);
    std::fill(ds_row + to, ds_row + n, 0.0f);
  }
  gemm_nn(m, d, n, ds, n, t.k + key, lk, t.grad_q + query, lq, false);
  gemm_tn(n, d, m, ds, n, t.q + query, lq, t.grad_k + key, lk, true);
  gemm_tn(n, d, m, p, n, t.grad_out + query, lq, t.grad_v + key, lk, true);
}

}  // namespace

void attention_forward(const AttentionSizes& s, const float* q, const float* k, const float* v, float* out,
                       float* log_sum) {
  const int64_t group = s.heads / s.kv_heads;
  for_each_kv_head(s, [&](int64_t row, int64_t kv_head) {
    Scratch scratch;
    float* scores = scratch.floats(kQueryBlock * s.length);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t begin = 0; begin < s.length; begin += kQueryBlock)
        forward_block({s, row, head}, block_at(s, row, begin), q, k, v, out, log_sum, scores);
    }
  });
}

void attention_backward(const AttentionSizes& s, const float* q, const float* k, const float* v,
                        const float* out, const float* log_sum, const float* grad_out, float* grad_q,
                        float* grad_k, float* grad_v) {
  const Backward tensors = {q, k, v, out, log_sum, grad_out, grad_q, grad_k, grad_v};
  const int64_t group = s.heads / s.kv_heads;
  for_each_kv_head(s, [&](int64_t row, int64_t kv_head) {
    Scratch scratch;
    float* p = scratch.floats(kQueryBlock * s.length);
    float* ds = scratch.floats(kQueryBlock * s.length);
    const Head first = {s, row, kv_head * group};
    for (int64_t j = 0; j < s.length; ++j) {
      std::fill_n(grad_k + first.key(j), s.head_dim, 0.0f);
      std::fill_n(grad_v + first.key(j), s.head_dim, 0.0f);
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t begin = 0; begin < s.length; begin += kQueryBlock)
        backward_block({s, row, head}, block_at(s, row, begin), tensors, p, ds);
    }
  });
}

}  // namespace gatewright::kernels
