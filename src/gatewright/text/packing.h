// Documents packed into sequences of one length, with document boundaries kept.
//
// With an end-of-text token E a document t1 .. tn is learned as  E t1 .. tn -> t1 .. tn E: E begins a
// document and ends it, so every byte of text is predicted and every document can be generated from nothing.
// Without one it is t1 .. t(n-1) -> t2 .. tn. Documents follow one another; one that does not fit goes on in
// the next sequence, where attention sees it from the beginning of that sequence only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gatewright/text/token_cache.h"

namespace gatewright {

/// B = sequences, S = length; the vectors are [B, S], row by row.
struct PackedBatch {
  int64_t sequences = 0, length = 0;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;    ///< the next token; -1: nothing to predict (filling at the end)
  std::vector<int32_t> first_key;  ///< index in the sequence of the first token of the same document
  std::vector<int32_t> domain;     ///< of each token's document; filling has the last document's
  int64_t bytes = 0;  ///< of text that the targets stand for: bits per byte = loss sum / ln 2 / bytes
  std::vector<int64_t> domain_bytes;  ///< the same for each domain of the cache
};

/// Bytes of text that each token id of a vocabulary stands for; the end of text counts 0.
using TokenByteLengths = std::shared_ptr<const std::vector<int32_t>>;

/// Documents of one part in a given order, laid end to end and cut into sequences of S.
class Packing {
 public:
  /// @param cache  must outlive this
  /// @param order  documents of the part
  Packing(const TokenCache& cache, Part part, int64_t length, TokenByteLengths token_byte_lengths,
          std::vector<int64_t> order);

  /// The last one may be filled up.
  int64_t sequences() const { return (begin_.back() + length_ - 1) / length_; }
  int64_t length() const { return length_; }
  /// Predicted tokens of all sequences.
  int64_t targets() const { return begin_.back(); }
  PackedBatch empty_batch() const;
  void append(int64_t sequence, PackedBatch& batch) const;

 private:
  const TokenCache* cache_;
  Part part_;
  int64_t length_;
  TokenByteLengths token_byte_lengths_;
  std::vector<int64_t> order_;
  std::vector<int64_t> begin_;  // first place of each document of the order; then the number of places
};

/// Endless training batches. Every epoch draws a new order of documents, packs them and draws an order of
/// sequences, so that the pieces of a long document are not neighbours. All of it follows from the seed and
/// the epoch: what comes after seek(state) is what came after state().
class TrainStream {
 public:
  struct State {
    int64_t epoch = 0;
    int64_t position = 0;  ///< sequences of this epoch that were handed out
    bool operator==(const State&) const = default;
  };

  /// @param cache  must outlive this
  /// @param token_byte_lengths  [vocab_size]
  TrainStream(const TokenCache& cache, int64_t length, std::vector<int32_t> token_byte_lengths,
              uint64_t seed);
  /// Exactly batch_size sequences; at the end of an epoch the next one begins.
  PackedBatch next(int64_t batch_size);
  State state() const { return state_; }
  /// A position outside the epoch is an error.
  void seek(State state);
  int64_t sequences_per_epoch() const { return packing_.sequences(); }
  int64_t tokens_per_epoch() const { return packing_.targets(); }

 private:
  void begin_epoch(int64_t epoch);
  std::vector<int64_t> document_order(int64_t epoch) const;

  const TokenCache* cache_;
  TokenByteLengths token_byte_lengths_;
  uint64_t seed_;
  Packing packing_;
  std::vector<int64_t> sequence_order_;
  State state_;
};

/// Every token of a part once, in fixed order.
class ValidationStream {
 public:
  /// @param cache  must outlive this
  /// @param token_byte_lengths  [vocab_size]
  /// @param most_sequences  when positive and smaller than what is there: that many, evenly spread
  ValidationStream(const TokenCache& cache, int64_t length, std::vector<int32_t> token_byte_lengths,
                   Part part = Part::kValidation, int64_t most_sequences = 0);
  /// Up to batch_size sequences; none when all were handed out.
  PackedBatch next(int64_t batch_size);
  void rewind() { position_ = 0; }
  int64_t sequences() const { return sequences_; }

 private:
  Packing packing_;
  int64_t sequences_;
  int64_t position_ = 0;
};

}  // namespace gatewright
