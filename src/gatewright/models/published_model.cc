#include "gatewright/models/published_model.h"

#include <algorithm>
#include <memory>

#include "gatewright/base/error.h"
#include "gatewright/base/parallel.h"
#include "gatewright/experts/packed_tensor.h"
#include "gatewright/experts/registry.h"
#include "gatewright/routing/balance.h"
#include "gatewright/routing/choice/registry.h"
#include "gatewright/routing/scorer.h"

namespace gatewright {
namespace {

// --- the spec ---

RouterSpec router_of(const RoutedSpec& r) {
  RouterSpec router;
  router.scorer = make_piece(scorers(), "linear", {{"bias", r.router_bias}});
  router.selector =
      r.num_groups > 1
          ? make_piece(choice::selectors(), "group_limited_top_k",
                       {{"top_k", r.top_k},
                        {"num_groups", r.num_groups},
                        {"groups_used", r.groups_used},
                        {"group_score", std::string(r.group_by_best ? "best" : "sum_of_two_best")}})
          : make_piece(choice::selectors(), "top_k", {{"top_k", r.top_k}});
  router.activation = r.sigmoid ? choice::Activation::kSigmoid : choice::Activation::kSoftmax;
  router.weights.weighting = r.softmax_chosen ? choice::Weighting::kSoftmaxChosen
                             : r.renormalise  ? choice::Weighting::kRenormalised
                                              : choice::Weighting::kAsIs;
  router.weights.scale = r.scale;
  // The bias stays as the file has it until someone asks for another rate.
  if (r.selection_bias)
    router.balance.push_back(make_piece(balance_terms(), "loss_free_bias", {{"rate", 0.0}}));
  return router;
}

FeedForwardSpec feed_forward_of(const ArchitectureLayer& layer, bool clamped) {
  if (!layer.routed) return {.routed = false, .dense_width = layer.dense_width};
  const RoutedSpec& r = *layer.routed;
  FeedForwardSpec spec{.routed = true, .num_experts = r.num_experts};
  spec.experts = make_piece(expert_banks(), clamped ? "clamped_swiglu" : "swiglu",
                            {{"width", r.width}, {"biases", r.biases}});
  if (r.shared_width > 0)
    spec.expert_decorators.push_back(
        make_piece(expert_bank_decorators(), "shared", {{"width", r.shared_width}, {"gate", r.shared_gate}}));
  spec.router = router_of(r);
  return spec;
}

// --- the weights ---

/// Those that are only multiplied with, and looked up in: they may stay as the file has them.
bool may_be_packed(const NamedTensor& p) {
  return p.name.ends_with("_proj.weight") || p.name.ends_with("_with_mqa.weight") ||
         p.name.ends_with("embed_tokens.weight") || p.name == "lm_head.weight";
}

/// The rows of one matrix, in the file or put together beside it; `owned` keeps the latter.
PackedMatrix matrix_of(const ModelFile& file, const ModelTensor& tensor, int64_t index, int64_t rows,
                       std::vector<std::vector<std::byte>>& owned) {
  std::vector<std::byte> storage;
  const std::span<const std::byte> bytes = file.rows(tensor, index * rows, rows, storage);
  PackedMatrix matrix{
      .type = file.type_of(tensor), .rows = rows, .columns = tensor.columns(), .data = bytes.data()};
  if (!storage.empty()) owned.push_back(std::move(storage));  // its bytes stay where they are
  return matrix;
}

Tensor packed_of(const ModelFile& file, const ModelTensor& tensor) {
  struct Owner {
    std::shared_ptr<const void> file;
    std::vector<std::vector<std::byte>> owned;
  };
  const auto owner = std::make_shared<Owner>(Owner{.file = file.owner(), .owned = {}});
  const bool stacked = tensor.shape.size() == 3;
  const int64_t count = stacked ? tensor.shape[0] : 1;
  std::vector<PackedMatrix> matrices;
  for (int64_t i = 0; i < count; ++i)
    matrices.push_back(matrix_of(file, tensor, i, tensor.rows() / count, owner->owned));
  return make_packed_tensor(matrices, stacked, owner);
}

/// float32, of the parameter's shape.
Tensor values_of(const ModelFile& file, const ModelTensor& tensor, at::IntArrayRef shape) {
  const Tensor values = at::empty(shape, at::kFloat);
  const int64_t columns = tensor.columns();
  parallel_for(0, tensor.rows(), std::max<int64_t>(1, 65536 / columns), [&](int64_t begin, int64_t end) {
    file.read_values(
        tensor, begin, end - begin,
        {values.data_ptr<float>() + begin * columns, static_cast<size_t>((end - begin) * columns)});
  });
  return values;
}

void fill(const ModelFile& file, NamedTensor& p, WeightStorage storage) {
  const bool known =
      std::ranges::any_of(file.tensors(), [&](const ModelTensor& t) { return t.name == p.name; });
  require(known, "{}: a file of the family {} has no place for {}, which the routing asks for",
          file.path().string(), file.architecture().family, p.name);
  const ModelTensor& tensor = file.tensor(p.name);
  require(num_values(p.tensor) == tensor.rows() * tensor.columns(),
          "{}: {} has {} values, the model needs {}", file.path().string(), p.name,
          tensor.rows() * tensor.columns(), num_values(p.tensor));
  const bool packed = storage == WeightStorage::kMapped && may_be_packed(p);
  if (packed) p.tensor.set_requires_grad(false);
  // Stacks of float32 are what the kernels of the experts read.
  if (packed && file.type_of(tensor) != DataType::kF32) return p.tensor.set_data(packed_of(file, tensor));
  p.tensor.set_data(values_of(file, tensor, p.tensor.sizes()));
}

}  // namespace

DecoderSpec decoder_spec(const Architecture& a) {
  DecoderSpec spec{.vocab_size = a.vocab_size,
                   .hidden_size = a.hidden_size,
                   .num_heads = a.num_heads,
                   .num_kv_heads = a.num_kv_heads,
                   .head_dim = a.head_dim,
                   .max_positions = a.max_positions,
                   .rotary = a.rotary,
                   // As every file can hold it: both formats of a model give the same bits.
                   .rms_norm_eps = static_cast<double>(static_cast<float>(a.rms_norm_eps)),
                   .query_key_norm = a.query_key_norm,
                   .query_key_value_bias = a.query_key_value_bias,
                   .output_bias = a.output_bias,
                   .attention_sinks = a.attention_sinks,
                   .clip_qkv = a.clip_qkv,
                   .latent = a.latent,
                   .tie_word_embeddings = a.tie_word_embeddings};
  spec.family = a.family;
  for (const ArchitectureLayer& layer : a.layers) {
    spec.windows.push_back(layer.window);
    spec.layers.push_back(feed_forward_of(layer, a.clamped_swiglu));
  }
  return spec;
}

Decoder load_published(const ModelFile& file, WeightStorage storage,
                       const std::function<void(DecoderSpec&)>& change, uint64_t seed) {
  DecoderSpec spec = decoder_spec(file.architecture());
  if (change) change(spec);
  const WithoutInitialWeights from_the_file;
  Decoder model(std::move(spec), seed);
  const at::NoGradGuard no_grad;
  for (NamedTensor& p : model.parameters()) fill(file, p, storage);
  return model;
}

}  // namespace gatewright
