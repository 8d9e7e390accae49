#include "gatewright/text/packing.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "gatewright/base/error.h"
#include "gatewright/base/random.h"

namespace gatewright {
namespace {

std::vector<int64_t> counting(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return numbers;
}

void shuffle(std::vector<int64_t>& values, uint64_t seed, std::string_view what, int64_t epoch) {
  RandomStream(seed, fmt::format("data.{}.{}", what, epoch)).shuffle(std::span(values));
}

}  // namespace

Packing::Packing(const TokenCache& cache, Part part, int64_t length, TokenByteLengths token_byte_lengths,
                 std::vector<int64_t> order)
    : cache_(&cache),
      part_(part),
      length_(length),
      token_byte_lengths_(std::move(token_byte_lengths)),
      order_(std::move(order)) {
  require(length > 0, "sequences must have at least one token, got {}", length);
  require(std::cmp_equal(token_byte_lengths_->size(), cache.vocab_size()),
          "byte lengths of {} tokens were given for a vocabulary of {}", token_byte_lengths_->size(),
          cache.vocab_size());
  const int64_t missing = cache.end_of_text() ? 0 : 1;
  begin_.reserve(order_.size() + 1);
  begin_.push_back(0);
  for (int64_t document : order_)
    begin_.push_back(begin_.back() + cache.document(part, document).tokens - missing);
}

PackedBatch Packing::empty_batch() const {
  PackedBatch batch;
  batch.length = length_;
  batch.domain_bytes.assign(cache_->domains().size(), 0);
  return batch;
}

void Packing::append(int64_t sequence, PackedBatch& batch) const {
  require(sequence >= 0 && sequence < sequences(), "there is no sequence {} of {}", sequence, sequences());
  const std::optional<int32_t> end_of_text = cache_->end_of_text();
  const size_t row = batch.tokens.size();
  int64_t place = sequence * length_, filled = 0;
  size_t i = static_cast<size_t>(std::ranges::upper_bound(begin_, place) - begin_.begin()) - 1;
  std::vector<int32_t> ids;
  int32_t domain = 0;
  for (; filled < length_ && i < order_.size(); ++i) {
    const int64_t offset = place - begin_[i];
    const int64_t count = std::min(length_ - filled, begin_[i + 1] - place);
    if (count == 0) continue;
    // Inputs x[offset .. offset + count), targets one further, of x = (E,) t1 .. tn, E where the cache has
    // ids t1 .. E.
    ids.resize(static_cast<size_t>(count) + 1);
    const int64_t before = end_of_text ? 1 : 0;
    const bool from_nothing = offset < before;
    if (from_nothing) ids[0] = *end_of_text;
    cache_->copy_tokens(part_, order_[i], from_nothing ? 0 : offset - before,
                        std::span(ids).subspan(from_nothing));
    domain = cache_->document(part_, order_[i]).domain;
    int64_t bytes = 0;
    for (int64_t k = 0; k < count; ++k) bytes += (*token_byte_lengths_)[static_cast<size_t>(ids[k + 1])];
    batch.bytes += bytes;
    batch.domain_bytes[static_cast<size_t>(domain)] += bytes;
    batch.tokens.insert(batch.tokens.end(), ids.begin(), ids.end() - 1);
    batch.targets.insert(batch.targets.end(), ids.begin() + 1, ids.end());
    batch.first_key.insert(batch.first_key.end(), static_cast<size_t>(count), static_cast<int32_t>(filled));
    batch.domain.insert(batch.domain.end(), static_cast<size_t>(count), domain);
    filled += count;
    place += count;
  }
  // Filling repeats the end of text; each such token sees only itself.
  for (; filled < length_; ++filled) batch.first_key.push_back(static_cast<int32_t>(filled));
  const size_t whole = row + static_cast<size_t>(length_);
  batch.tokens.resize(whole, end_of_text.value_or(0));
  batch.targets.resize(whole, -1);
  batch.domain.resize(whole, domain);
  ++batch.sequences;
}

TrainStream::TrainStream(const TokenCache& cache, int64_t length, std::vector<int32_t> token_byte_lengths,
                         uint64_t seed)
    : cache_(&cache),
      token_byte_lengths_(std::make_shared<const std::vector<int32_t>>(std::move(token_byte_lengths))),
      seed_(seed),
      packing_(cache, Part::kTrain, length, token_byte_lengths_, document_order(0)) {
  require(packing_.sequences() > 0, "there is no training text in {}", cache.path().string());
  begin_epoch(0);
}

std::vector<int64_t> TrainStream::document_order(int64_t epoch) const {
  std::vector<int64_t> order = counting(cache_->documents(Part::kTrain));
  shuffle(order, seed_, "documents", epoch);
  return order;
}

void TrainStream::begin_epoch(int64_t epoch) {
  packing_ = Packing(*cache_, Part::kTrain, packing_.length(), token_byte_lengths_, document_order(epoch));
  sequence_order_ = counting(packing_.sequences());
  shuffle(sequence_order_, seed_, "sequences", epoch);
  state_ = {.epoch = epoch, .position = 0};
}

PackedBatch TrainStream::next(int64_t batch_size) {
  require(batch_size > 0, "a batch needs at least one sequence, got {}", batch_size);
  PackedBatch batch = packing_.empty_batch();
  while (batch.sequences < batch_size) {
    if (state_.position == packing_.sequences()) begin_epoch(state_.epoch + 1);
    packing_.append(sequence_order_[static_cast<size_t>(state_.position++)], batch);
  }
  return batch;
}

void TrainStream::seek(State state) {
  require(state.epoch >= 0 && state.position >= 0 && state.position <= packing_.sequences(),
          "the training text has no place {} of epoch {}: an epoch has {} sequences of {} tokens",
          state.position, state.epoch, packing_.sequences(), packing_.length());
  if (state.epoch != state_.epoch) begin_epoch(state.epoch);
  state_ = state;
}

ValidationStream::ValidationStream(const TokenCache& cache, int64_t length,
                                   std::vector<int32_t> token_byte_lengths, Part part, int64_t most_sequences)
    : packing_(cache, part, length,
               std::make_shared<const std::vector<int32_t>>(std::move(token_byte_lengths)),
               counting(cache.documents(part))),
      sequences_(packing_.sequences()) {
  require(sequences_ > 0, "there is no {} text in {}", part == Part::kTrain ? "training" : "validation",
          cache.path().string());
  if (most_sequences > 0) sequences_ = std::min(sequences_, most_sequences);
}

PackedBatch ValidationStream::next(int64_t batch_size) {
  require(batch_size > 0, "a batch needs at least one sequence, got {}", batch_size);
  PackedBatch batch = packing_.empty_batch();
  for (; batch.sequences < batch_size && position_ < sequences_; ++position_)
    packing_.append(position_ * packing_.sequences() / sequences_, batch);
  return batch;
}

}  // namespace gatewright
