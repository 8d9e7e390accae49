#include "gatewright/train/ul2.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/text/denoising.h"

namespace gatewright {
namespace {

const Denoiser& drawn(const std::vector<Denoiser>& denoisers, RandomStream& random) {
  double sum = 0;
  for (const Denoiser& d : denoisers) sum += d.share;
  double place = random.uniform_double() * sum;
  for (const Denoiser& d : denoisers) {
    if ((place -= d.share) < 0) return d;
  }
  return denoisers.back();
}

/// One row of a batch, on the CPU.
struct Row {
  int64_t *token, *target;
  const int32_t* first_key;
  bool* real;
};

/// Rewrites the piece [begin, end) of a row, whose tokens all have a target.
void rewrite(const Row& row, int64_t begin, int64_t end, const Denoiser& denoiser, SpanRule rule,
             RandomStream& random) {
  std::vector<int32_t> text;
  for (int64_t i = begin; i < end; ++i) text.push_back(static_cast<int32_t>(row.token[i]));
  text.push_back(static_cast<int32_t>(row.target[end - 1]));
  rule.mean_length = denoiser.mean_length;
  rule.rate = denoiser.rate;
  const DenoisedText made =
      denoiser.mean_length == 0 ? with_asked_end(text, denoiser.rate) : with_asked_spans(text, rule, random);
  const auto length = static_cast<int64_t>(made.tokens.size());
  std::copy(made.tokens.begin(), made.tokens.end(), row.token + begin);
  std::copy(made.targets.begin(), made.targets.end(), row.target + begin);
  std::fill(row.token + begin + length, row.token + end, 0);
  std::fill(row.target + begin + length, row.target + end, -1);
  std::fill(row.real + begin, row.real + begin + length, true);
}

}  // namespace

const std::vector<Denoiser>& ul2_denoisers() {
  static const std::vector<Denoiser> all = {{0.5, 0, 0.5}, {0.1, 3, 0.15}, {0.1, 8, 0.15},
                                            {0.1, 3, 0.5}, {0.1, 8, 0.5},  {0.1, 64, 0.5}};
  return all;
}

Batch denoised(const Batch& batch, const std::vector<Denoiser>& denoisers, int32_t first_sentinel,
               int64_t num_sentinels, RandomStream& random) {
  require(!denoisers.empty(), "denoising needs at least one denoiser");
  const int64_t rows = batch.rows(), length = batch.length();
  const Tensor tokens = batch.tokens.to(at::kCPU).clone().contiguous(),
               targets = batch.targets.to(at::kCPU).clone().contiguous(),
               first_key = (batch.first_key.defined() ? batch.first_key.to(at::kCPU)
                                                      : at::zeros({rows, length}, at::kInt))
                               .contiguous(),
               real = at::zeros({rows, length}, at::kBool);
  const SpanRule rule{.first_sentinel = first_sentinel, .num_sentinels = num_sentinels};
  for (int64_t r = 0; r < rows; ++r) {
    const Row row{.token = tokens.data_ptr<int64_t>() + r * length,
                  .target = targets.data_ptr<int64_t>() + r * length,
                  .first_key = first_key.data_ptr<int32_t>() + r * length,
                  .real = real.data_ptr<bool>() + r * length};
    for (int64_t begin = 0; begin < length;) {
      int64_t end = begin;
      while (end < length && row.target[end] >= 0 && row.first_key[end] == row.first_key[begin]) ++end;
      if (end == begin) {  // filling
        ++begin;
        continue;
      }
      rewrite(row, begin, end, drawn(denoisers, random), rule, random);
      begin = end;
    }
  }
  const at::Device device = batch.tokens.device();
  return {.tokens = tokens.to(device),
          .targets = targets.to(device),
          .first_key = batch.first_key,
          .real = real.to(device)};
}

}  // namespace gatewright
