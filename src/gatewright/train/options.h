// What a training is told, in plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gatewright/routing/router.h"

namespace gatewright {

struct TrainOptions {
  int64_t steps = 1000;
  int64_t batch_size = 8;                // sequences in one micro-batch
  int64_t sequence_length = 256;         // tokens
  int64_t accumulate = 1;                // micro-batches in one optimiser step
  std::string init = "";                 // a model to go on with: path or short name; empty: the recipe's own
  std::string base = "";                 // a model folder whose weights the recipe's model begins with
  std::string parameters = "all";        // that are trained: all, or routers
  std::vector<std::string> freeze = {};  // patterns of parameters that are not
  double learning_rate = 1e-3;           // peak
  Piece schedule = {};
  Piece objective = {.name = "next_token", .values = {}};
  Piece optimizer = {};
  double clip_norm = 1.0;            // 2-norm of all gradients; 0: no clipping
  int64_t log_every = 10;            // steps
  int64_t evaluate_every = 0;        // steps; 0: at the end only
  int64_t evaluate_tokens = 0;       // tokens of an evaluation before the end; 0: all
  int64_t last_evaluate_tokens = 0;  // of the one at the end
  int64_t checkpoint_every = 0;      // steps; 0: only when interrupted
  double spike_factor = 3.0;         // a loss this many times its running mean stops the training; 0: never
  std::string precision = "float32";
  std::string device = "auto";
};

struct DataOptions {
  std::vector<std::string> paths = {};
  double validation_share = 0.05;
  std::string tokenizer = "";  // tokenizer.json; empty: trained on the data
};

}  // namespace gatewright
