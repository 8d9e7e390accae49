// Causal attention with grouped queries, document boundaries and a sliding window (Ainslie et al. 2023,
// "GQA"; Beltagy et al. 2020, "Longformer"), and its key-value cache.
#pragma once

#include "gatewright/layers/token_tree.h"
#include "gatewright/tensor.h"

namespace gatewright {

struct AttentionMask {
  Tensor first_key = {};            // int32 [B, S], each in 0..i: query i sees no key before it; undefined: 0
  int64_t window = 0;               // query i sees no key before i - window + 1; 0: all
  double scale = 0;                 // multiplies the scores before the softmax; 0: head_dim^-1/2
  const TokenTree* tree = nullptr;  // of the new tokens, with a cache; null: they are a text
  Tensor sinks = {};  // [Q], a logit for each head that joins the softmax's sum and has no value (GPT-OSS)
};

/// q [B, S, Q, D], k and v [B, S, K, D] with Q a multiple of K -> [B, S, Q, D]. Query i sees keys up to i.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask = {});

/// The same in plain tensor operations, with the whole square of scores: for devices and types without
/// kernels, and to check them.
Tensor attention_by_tensor_operations(const Tensor& q, const Tensor& k, const Tensor& v,
                                      const AttentionMask& mask = {});

/// Keys and values of the tokens so far of one layer.
struct KeyValueCache {
  Tensor keys = {};      // [B, capacity, K, D]
  Tensor values = {};    // [B, capacity, K, D]
  Tensor selected = {};  // bool [B, capacity, K] whether a head serves a token; undefined: every one does
  int64_t length = 0;    // tokens stored
};

/// Appends k and v [B, N, K, D] of N new tokens, and with selective attention which heads serve them, bool
/// [B, N, K]. The storage grows by doubling.
void append(KeyValueCache& cache, const Tensor& k, const Tensor& v, const Tensor& selected = {});

/// Keeps of the tokens from `first` on those at first + kept[0], first + kept[1], ..., which ascend.
void keep_tokens(KeyValueCache& cache, int64_t first, std::span<const int64_t> kept);

/// Appends k and v [B, N, K, D] of N new tokens to the cache and lets q [B, N, Q, D] attend to all that lies
/// in it, as attention() over the whole sequence would. mask.first_key: [B, N], of the new tokens. No
/// gradients.
Tensor attention_with_cache(const Tensor& q, const Tensor& k, const Tensor& v, KeyValueCache& cache,
                            const AttentionMask& mask = {});

}  // namespace gatewright
