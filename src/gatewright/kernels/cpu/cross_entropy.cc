#include "gatewright/kernels/cpu/cross_entropy.h"

#include <cmath>
#include <limits>

#include "gatewright/base/cpu_targets.h"
#include "gatewright/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gatewright/kernels/cpu/cross_entropy.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, which includes this file again for each target.
#include "gatewright/kernels/cpu/panel_product-inl.h"
#include "gatewright/kernels/cpu/scratch.h"
#include "gatewright/kernels/cpu/work_items.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gatewright::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kHeadRows = 32 * kTileRows;  // of the vocabulary, handed to a thread at a time

/// Tokens of a block: many, so that each copy of the head serves many, within about 64 MB of logits.
HWY_INLINE int64_t tokens_of_block(int64_t vocabulary) {
  constexpr int64_t kLogits = int64_t{1} << 24;
  return std::clamp<int64_t>(kLogits / std::max<int64_t>(vocabulary, 1), 128, 512) / kPanel * kPanel;
}

/// One block of tokens. Logits lie as panels, a row for each word and a column for each token, so that
/// softmax needs no sums across a vector and the panels are operands of the next products as they are.
struct HeadBlock {
  HeadSizes s;
  int64_t first;  // token
  int64_t tokens;
  const float *hidden, *head;
  const int64_t* targets;
  float scale;
  Panels x;       // hidden states
  Panels logits;  // then their exponentials, less the sum at the target
  float* factor;  // [32 x panels] scale / sum: what is still to be multiplied into a column
  float* rows;    // [H / 32][tokens of a block][32] the hidden states times their factors
  int64_t rows_stride;
};

void copy_hidden(const HeadBlock& b, int64_t panel) {
  const float* from = b.hidden + (b.first + panel * kPanel) * b.s.hidden;
  pack_panel([&](int64_t r) { return from + r * b.s.hidden; }, b.x.columns(panel), b.s.hidden,
             b.x.at(panel, 0));
}

/// The largest logit of each column.
HWY_NOINLINE void column_maxima(const float* panel, int64_t rows, float* largest) {
  const FloatTag d;
  for (int64_t column = 0; column < kPanel; column += lanes()) {
    FloatVec m0 = hn::Set(d, -std::numeric_limits<float>::infinity()), m1 = m0;
    const float* at = panel + column;
    int64_t v = 0;
    for (; v + 2 <= rows; v += 2, at += 2 * kPanel) {
      m0 = hn::Max(m0, hn::LoadU(d, at));
      m1 = hn::Max(m1, hn::LoadU(d, at + kPanel));
    }
    if (v < rows) m0 = hn::Max(m0, hn::LoadU(d, at));
    hn::StoreU(hn::Max(m0, m1), d, largest + column);
  }
}

/// The panel becomes exp(panel - shift); sum [32] of each column. Sums of a few rows are summed: one running
/// sum over a whole vocabulary would lose the small ones (a perplexity 0.01 % too low at 49,152 rows).
HWY_NOINLINE void column_exponentials(float* panel, int64_t rows, const float* shift, float* sum) {
  constexpr int64_t kSummed = 128 * kPanel;
  const FloatTag d;
  const float* end = panel + rows * kPanel;
  for (int64_t column = 0; column < kPanel; column += lanes()) {
    const FloatVec by = hn::LoadU(d, shift + column);
    FloatVec total = hn::Zero(d);
    for (float* at = panel + column; at < end;) {
      const float* stop = std::min<const float*>(end, at + kSummed);
      FloatVec part = hn::Zero(d);
      for (; at < stop; at += kPanel) {
        const FloatVec e = hn::Exp(d, hn::Sub(hn::LoadU(d, at), by));
        part = hn::Add(part, e);
        hn::StoreU(e, d, at);
      }
      total = hn::Add(total, part);
    }
    hn::StoreU(total, d, sum + column);
  }
}

void softmax(const HeadBlock& b, int64_t panel, float* losses) {
  HWY_ALIGN float shift[kPanel];
  HWY_ALIGN float sum[kPanel];
  float target_logit[kPanel] = {};
  float *values = b.logits.at(panel, 0), *factor = b.factor + panel * kPanel;
  const int64_t first = b.first + panel * kPanel, columns = b.logits.columns(panel);
  column_maxima(values, b.s.vocabulary, shift);
  for (int64_t i = 0; i < columns; ++i) {
    if (b.targets[first + i] >= 0) target_logit[i] = values[b.targets[first + i] * kPanel + i];
  }
  column_exponentials(values, b.s.vocabulary, shift, sum);
  for (int64_t i = 0; i < columns; ++i) {
    const int64_t target = b.targets[first + i];
    losses[first + i] = target < 0 ? 0.0f : shift[i] + std::log(sum[i]) - target_logit[i];
    factor[i] = target < 0 ? 0.0f : b.scale / sum[i];
    if (target >= 0) values[target * kPanel + i] -= sum[i];
  }
}

/// The panel's hidden states times their factors, for the gradient of the head.
void scale_hidden(const HeadBlock& b, int64_t panel) {
  const FloatTag d;
  for (int64_t i = 0; i < b.x.columns(panel); ++i) {
    const int64_t token = panel * kPanel + i;
    const float* from = b.hidden + (b.first + token) * b.s.hidden;
    const FloatVec factor = hn::Set(d, b.factor[token]);
    for (int64_t h = 0; h < b.s.hidden; h += kPanel) {
      float* to = b.rows + h * b.rows_stride + token * kPanel;
      const int64_t count = std::min(kPanel, b.s.hidden - h);
      copy_row(from + h, count, to);
      std::fill(to + count, to + kPanel, 0.0f);
      for (int64_t j = 0; j < kPanel; j += lanes())
        hn::StoreU(hn::Mul(hn::LoadU(d, to + j), factor), d, to + j);
    }
  }
}

/// Panels [begin, end): grad_hidden = head^T logits, column by column times its factor.
void hidden_gradient(const HeadBlock& b, int64_t begin, int64_t end, float* grad_hidden) {
  Scratch scratch;
  const int64_t first = begin * kPanel;
  Panels in = b.logits;
  in.data = b.logits.at(begin, 0);
  in.tokens = std::min(b.tokens, end * kPanel) - first;
  const Panels out = {scratch.floats((end - begin) * b.s.hidden * kPanel), b.s.hidden, in.tokens};
  panel_product(Matrix<float>{b.head, b.s.hidden, true}, 0, b.s.hidden, in, out, false,
                scratch.floats(kPackFloats));
  const FloatTag d;
  for (int64_t p = 0; p < out.count(); ++p) {
    for (int64_t column = 0; column < out.columns(p); column += lanes()) {
      const FloatVec factor = hn::LoadU(d, b.factor + first + p * kPanel + column);
      for (int64_t h = 0; h < b.s.hidden; ++h) {
        float* at = out.at(p, h) + column;
        hn::StoreU(hn::Mul(hn::LoadU(d, at), factor), d, at);
      }
    }
    unpack_panel(out.at(p, 0), out.columns(p), b.s.hidden,
                 grad_hidden + (b.first + first + p * kPanel) * b.s.hidden, b.s.hidden);
  }
}

/// Rows [begin, end) of the head: grad_head (+)= logits rows, where rows are the scaled hidden states.
void head_gradient(const HeadBlock& b, int64_t begin, int64_t end, float* grad_head) {
  const int64_t tiles = num_tiles(end - begin), block_stride = b.s.vocabulary * kPanel;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = begin + tile_begin(end - begin, tiles, t);
    const int64_t row_end = begin + tile_begin(end - begin, tiles, t + 1);
    Prefetch prefetch = {.base = reinterpret_cast<const char*>(b.logits.at(0, row_end)),
                         .step = 64,
                         .block_step = block_stride * static_cast<int64_t>(sizeof(float))};
    for (int64_t h = 0; h < b.s.hidden; h += kPanel, prefetch = {}) {
      tile_of_matrix<Layout::rows>(static_cast<int>(row_end - row), std::min(kPanel, b.s.hidden - h),
                                   {.k = b.tokens,
                                    .a = b.logits.at(0, row),
                                    .a_block_stride = block_stride,
                                    .b = b.rows + h * b.rows_stride,
                                    .b_stride = kPanel,
                                    .c = grad_head + row * b.s.hidden + h,
                                    .c_stride = b.s.hidden,
                                    .accumulate = b.first > 0,
                                    .prefetch = prefetch});
    }
  }
}

/// Calls body(first, last) on pieces of the vocabulary, spread over the threads.
template <typename Body>
void for_each_piece(int64_t vocabulary, const Body& body) {
  for_each_item((vocabulary + kHeadRows - 1) / kHeadRows,
                [&](int64_t item) { body(item * kHeadRows, std::min(vocabulary, (item + 1) * kHeadRows)); });
}

void run_block(const HeadBlock& b, float* losses, float* grad_hidden, float* grad_head) {
  const int64_t panels = b.x.count();
  for_each_item(panels, [&](int64_t p) { copy_hidden(b, p); });
  for_each_piece(b.s.vocabulary, [&](int64_t first, int64_t last) {
    Scratch scratch;
    panel_product(Matrix<float>{b.head, b.s.hidden}, first, last, b.x, b.logits, false,
                  scratch.floats(kPackFloats));
  });
  for_each_item(panels, [&](int64_t p) {
    softmax(b, p, losses);
    if (grad_head) scale_hidden(b, p);
  });
  if (grad_hidden) {
    parallel_for(0, panels, 1,
                 [&](int64_t first, int64_t last) { hidden_gradient(b, first, last, grad_hidden); });
  }
  if (grad_head) {
    for_each_piece(b.s.vocabulary,
                   [&](int64_t first, int64_t last) { head_gradient(b, first, last, grad_head); });
  }
}

void linear_cross_entropy_on(const HeadSizes& s, const float* hidden, const float* head,
                             const int64_t* targets, float scale, float* losses, float* grad_hidden,
                             float* grad_head) {
  Scratch scratch;
  const int64_t most = tokens_of_block(s.vocabulary);
  const int64_t wide = (s.hidden + kPanel - 1) / kPanel * kPanel;
  float* logits = scratch.floats(most * s.vocabulary);
  float* x = scratch.floats(most * s.hidden);
  float* rows = scratch.floats(most * wide);
  float* factor = scratch.floats(most);
  if (s.tokens == 0 && grad_head) std::fill(grad_head, grad_head + s.vocabulary * s.hidden, 0.0f);
  for (int64_t t = 0; t < s.tokens; t += most) {
    const int64_t tokens = std::min(most, s.tokens - t);
    const HeadBlock block = {.s = s,
                             .first = t,
                             .tokens = tokens,
                             .hidden = hidden,
                             .head = head,
                             .targets = targets,
                             .scale = scale,
                             .x = {.data = x, .features = s.hidden, .tokens = tokens},
                             .logits = {.data = logits, .features = s.vocabulary, .tokens = tokens},
                             .factor = factor,
                             .rows = rows,
                             .rows_stride = most};
    run_block(block, losses, grad_hidden, grad_head);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace gatewright::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gatewright::kernels {
HWY_EXPORT(linear_cross_entropy_on);

void linear_cross_entropy(const HeadSizes& sizes, const float* hidden, const float* head,
                          const int64_t* targets, float scale, float* losses, float* grad_hidden,
                          float* grad_head) {
  HWY_DYNAMIC_DISPATCH(linear_cross_entropy_on)
  (sizes, hidden, head, targets, scale, losses, grad_hidden, grad_head);
}

}  // namespace gatewright::kernels
#endif
