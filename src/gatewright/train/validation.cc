#include "gatewright/train/validation.h"

#include <cmath>
#include <numbers>

#include "gatewright/base/interrupt.h"
#include "gatewright/layers/cross_entropy.h"
#include "gatewright/train/packed_tensors.h"

namespace gatewright {
namespace {

void add_losses(ValidationResult& result, const PackedBatch& packed, const Tensor& losses) {
  const Tensor plain = losses.to(at::kCPU, at::kFloat).contiguous();
  const float* loss = plain.data_ptr<float>();
  for (size_t i = 0; i < packed.targets.size(); ++i) {
    if (packed.targets[i] < 0) continue;
    for (TextLoss* part : {&result.all, &result.domains[static_cast<size_t>(packed.domain[i])]}) {
      part->loss_sum += static_cast<double>(loss[i]);
      ++part->tokens;
    }
  }
  result.all.bytes += packed.bytes;
  for (size_t d = 0; d < packed.domain_bytes.size(); ++d) result.domains[d].bytes += packed.domain_bytes[d];
}

}  // namespace

double TextLoss::perplexity() const { return std::exp(loss()); }

double TextLoss::bits_per_byte() const {
  return bytes ? loss_sum / std::numbers::ln2 / static_cast<double>(bytes) : 0;
}

ValidationResult validate_on(Decoder& model, ValidationStream& stream, int64_t batch_size,
                             int64_t num_domains, const SeeBatch& see) {
  const at::NoGradGuard no_grad;
  ValidationResult result;
  result.domains.resize(static_cast<size_t>(num_domains));
  stream.rewind();
  while (!interrupted()) {
    const PackedBatch packed = stream.next(batch_size);
    if (packed.sequences == 0) break;
    const Batch batch = to_batch(packed, model.device());
    const DecoderOutput output = model.forward(batch);
    const Tensor losses = token_losses(output.hidden.reshape({-1, model.spec().hidden_size}), model.head(),
                                       batch.targets.reshape({-1}));
    add_losses(result, packed, losses);
    result.routing.add(output.routing, batch.real);
    if (see) see(packed, output);
  }
  return result;
}

}  // namespace gatewright
