// The decoder-only language model: embedding, layers of attention and feed-forward (dense or a mixture of
// experts, each with its own router), final norm, head.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gatewright/experts/expert_bank.h"
#include "gatewright/layers/attention.h"
#include "gatewright/layers/rotary.h"
#include "gatewright/models/batch.h"
#include "gatewright/models/configuration.h"

namespace gatewright {

class ProductObserver;

struct ForwardOptions {
  bool training = false;
  int64_t step = 0;                             // optimiser steps done, for schedules
  int64_t num_steps = 0;                        // of the whole training, for schedules
  uint64_t draw = 0;                            // outside training: another number, other random draws
  int64_t micro_batch = -1;                     // of the step, for buffers over micro-batches; -1: not told
  bool counting = false;                        // a pass before the step, see wants_counting_pass
  const ProcessGroup* processes = nullptr;      // that compute the step together
  std::vector<KeyValueCache>* cache = nullptr;  // one a layer: the tokens continue what is in it
  int64_t text_length = 0;  // when the text comes in pieces: tokens of all of it, which LongRoPE turns by
  ProductObserver* observer = nullptr;  // sees what the weights are multiplied with
  int64_t layers = -1;                  // only so many from the first, for their routing; -1: all
};

struct DecoderOutput {
  Tensor hidden;                       // [B, S, H] after the final norm
  std::vector<RoutingRecord> routing;  // one a round of a routed layer, in order
  // Of each layer in order: the heads of its tokens with selective attention, the experts of each adapted
  // projection.
  std::vector<RoutingRecord> attention = {};
  Tensor balance_loss = {};  // float32 scalar, sum over layers; undefined when there is none
};

class Decoder {
 public:
  /// Initial weights from streams of `seed` named after the parameters.
  Decoder(DecoderSpec spec, uint64_t seed);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  DecoderOutput forward(const Batch& batch, const ForwardOptions& options = {});
  /// Head weight [V, H] (the embedding when tied).
  const Tensor& head() const;
  /// hidden [..., H] -> float32 logits [..., V]
  Tensor logits(const Tensor& hidden, ProductObserver* observer = nullptr) const;

  /// Hugging Face names; stacked expert tensors carry "{}" (named_tensor.h).
  ParameterList parameters() const;
  /// Keeps parameters from being trained: those whose name fits one of the patterns, in which * stands for
  /// any text. A pattern that fits none is an error (UsageError). Their `trainable` is false from then on.
  void freeze(const std::vector<std::string>& patterns);
  /// The same for all that is no router's; fails (UsageError) when the model has none.
  void freeze_all_but_routers();
  /// What training may change: all parameters and states but those that were frozen.
  ParameterList unfrozen_parameters() const;
  /// Number of values in all trainable parameters.
  int64_t num_parameters() const;
  void to(const at::Device& device);
  at::Device device() const;

  /// Whether every router chooses for a token by its own scores only, so that a text may come in pieces.
  bool chooses_token_by_token() const;
  /// Whether the micro-batches of a step must run once with ForwardOptions::counting before it is learned
  /// from.
  bool wants_counting_pass() const;
  /// After each optimiser step: balance rules without a loss act.
  void end_step();
  /// Positions of the layers' random streams, for resuming; draws in training only.
  std::vector<uint64_t> random_state() const;
  void set_random_state(const std::vector<uint64_t>& state);

  const DecoderSpec& spec() const { return spec_; }

 private:
  struct Layer;
  enum class Half { kAttention, kFeedForward };

  /// Of all layers, in order.
  std::vector<Router*> routers_of(Half half) const;

  void freeze(NamedTensor& parameter);

  /// The rotary table, made longer when `positions` does not fit.
  const RotaryTable& rotary_table(int64_t positions);

  DecoderSpec spec_;
  SharedModules shared_;
  Tensor embedding_, norm_, head_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::set<std::string> frozen_;  // names
  RotaryTable rotary_;
  bool rotary_is_long_ = false;  // LongRoPE's angles for long texts
};

}  // namespace gatewright
