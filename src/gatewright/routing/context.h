// What a router may know besides the hidden states.
#pragma once

#include <cstdint>

#include "gatewright/base/random.h"
#include "gatewright/routing/shared_modules.h"
#include "gatewright/tensor.h"

namespace gatewright {

class ProcessGroup;
struct Scores;

struct RoutingContext {
  int64_t layer = 0;              // named in errors, in the trace and in random streams
  int64_t round = 0;              // of the layer, when it routes several times in a row
  bool training = false;          // jitter, noise and buffers over micro-batches work in training only
  int64_t step = 0;               // optimiser steps done, for schedules
  int64_t num_steps = 0;          // of the whole training, for schedules; 0: not known
  int64_t micro_batch = -1;       // of the step; -1: not told, and every call is a new one
  bool counting = false;          // a pass before the step that only counts, see BalanceTerm::count
  int64_t num_routed_layers = 1;  // of the model, each round counted, for terms that are means over layers
  int64_t num_sequences = 1;      // tokens come as this many sequences of equal length, one after another
  int64_t first_position = 0;  // of these tokens in their sequences: what came before is in a key-value cache
  Tensor token_ids = {};       // int64 [T]; needed by the scorer hash
  Tensor first_key = {};  // int32 [T], place in its sequence of the first token of the document; undefined: 0
  Tensor real_tokens = {};                  // bool [T], false: padding; undefined: no token is
  RandomStream* random = nullptr;           // this layer's stream; needed by what draws
  const ProcessGroup* processes = nullptr;  // that compute the step together; null: this one alone
  const Scores* previous = nullptr;         // scores of the round or routed layer before this one
  CarriedState* carried = nullptr;          // of this forward pass; nullptr: every layer begins anew
};

}  // namespace gatewright
