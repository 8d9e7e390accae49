// A mixture of denoisers as an objective (Tay et al. 2022, UL2; with a causal mask: Xue et al. 2024,
// OpenMoE).
#pragma once

#include <vector>

#include "gatewright/base/random.h"
#include "gatewright/models/batch.h"

namespace gatewright {

/// What is done with one document of many. OpenMoE's: half of them prefix language models of rate 0.5, the
/// other half spans, a fifth each of (3, 0.15), (8, 0.15), (3, 0.5), (8, 0.5), (64, 0.5).
struct Denoiser {
  double share;        // of the documents, relative to the others
  double mean_length;  // of a span, in tokens; 0: the end of the document is asked for
  double rate;         // share of the text that is asked for
};
const std::vector<Denoiser>& ul2_denoisers();

/// Every document, or piece of one, of the batch [B, S] rewritten in its place by a denoiser of its own (see
/// text/denoising.h). What gets shorter is filled up behind its end, where `real` is false.
/// @param num_sentinels  ids from first_sentinel on that no text has
Batch denoised(const Batch& batch, const std::vector<Denoiser>& denoisers, int32_t first_sentinel,
               int64_t num_sentinels, RandomStream& random);

}  // namespace gatewright
