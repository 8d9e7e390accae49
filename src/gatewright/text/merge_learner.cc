#include "gatewright/text/merge_learner.h"

#include <algorithm>
#include <array>

#include "gatewright/base/error.h"
#include "gatewright/text/byte_alphabet.h"

namespace gatewright {
namespace {

constexpr int32_t kBorder = INT32_MIN;      // between words
constexpr int32_t kInside = INT32_MIN + 1;  // of a token, neither its first slot nor its last

}  // namespace

MergeLearner::MergeLearner(const WordCounts& words, BpeVocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)) {
  for (size_t id = 0; id < vocabulary_.tokens.size(); ++id) {
    token_ids_.emplace(vocabulary_.tokens[id], static_cast<int32_t>(id));
    sizes_.push_back(static_cast<uint32_t>(vocabulary_.tokens[id].size()));
  }
  lay_out(words);
  queue_seen();
}

void MergeLearner::lay_out(const WordCounts& words) {
  const size_t total = words.total_bytes() + words.size() + 1;
  require(total < INT32_MAX, "cannot train on {} bytes of different words: the limit is {}",
          words.total_bytes(), INT32_MAX);
  std::array<int32_t, 256> byte_token;
  for (size_t byte = 0; byte < 256; ++byte)
    byte_token[byte] = token_ids_.at(std::string(1, static_cast<char>(byte)));
  slots_.reserve(total);
  word_at_.reserve(total);
  counts_.reserve(words.size());
  slots_.push_back(kBorder);
  word_at_.push_back(0);
  for (const size_t i : words.sorted()) {
    const std::string_view word = words.word(i);
    for (size_t k = 0; k < word.size(); ++k) {
      const int32_t token = byte_token[static_cast<uint8_t>(word[k])];
      if (k > 0) see(slots_.back(), token, static_cast<uint32_t>(slots_.size() - 1), words.count(i));
      slots_.push_back(token);
    }
    slots_.push_back(kBorder);
    word_at_.resize(slots_.size(), static_cast<uint32_t>(counts_.size()));
    counts_.push_back(words.count(i));
  }
}

MergeLearner::Pair& MergeLearner::pair(int32_t left, int32_t right) {
  const auto [index, is_new] = pair_index_.insert(left, right, static_cast<uint32_t>(pairs_.size()));
  if (is_new) pairs_.push_back({.left = left, .right = right, .places = {}});
  return pairs_[index];
}

void MergeLearner::see(int32_t left, int32_t right, uint32_t place, int64_t count) {
  Pair& seen = pair(left, right);
  if (seen.seen_by != vocabulary_.merges.size())
    seen_.push_back(static_cast<uint32_t>(&seen - pairs_.data()));
  seen.seen_by = vocabulary_.merges.size();
  seen.count += count;
  seen.places.push_back(place);
}

void MergeLearner::queue_seen() {
  for (const uint32_t index : seen_) {
    const Pair& p = pairs_[index];
    if (p.count > 0) queue_.push({.count = p.count, .left = p.left, .right = p.right, .pair = index});
  }
  seen_.clear();
}

std::optional<MergeLearner::Candidate> MergeLearner::most_frequent(int64_t min_frequency) {
  while (!queue_.empty()) {
    Candidate top = queue_.top();
    queue_.pop();
    const int64_t count = pairs_[top.pair].count;
    if (count == top.count) return top;
    top.count = count;
    if (count >= min_frequency) queue_.push(top);
  }
  return std::nullopt;
}

/// Two merges can give the same bytes ("ab" + "c" and "a" + "bc"): they share one token.
int32_t MergeLearner::token_for(const std::string& bytes) {
  const auto [found, is_new] = token_ids_.emplace(bytes, static_cast<int32_t>(vocabulary_.tokens.size()));
  if (is_new) {
    vocabulary_.tokens.push_back(bytes);
    sizes_.push_back(static_cast<uint32_t>(bytes.size()));
  }
  return found->second;
}

bool MergeLearner::merge_next(int64_t min_frequency) {
  const std::optional<Candidate> top = most_frequent(min_frequency);
  if (!top || top->count < min_frequency) return false;
  const auto bytes = [this](int32_t id) { return vocabulary_.tokens[static_cast<size_t>(id)]; };
  const BpeMerge merge{top->left, top->right, token_for(bytes(top->left) + bytes(top->right))};
  vocabulary_.merges.push_back(merge);
  std::vector<uint32_t> places;
  places.swap(pairs_[top->pair].places);
  if (!std::ranges::is_sorted(places)) std::ranges::sort(places);
  for (const uint32_t place : places) merge_at(place, merge);
  queue_seen();
  return true;
}

void MergeLearner::merge_at(uint32_t place, const BpeMerge& merge) {
  const uint32_t left_size = size(merge.left), right_size = size(merge.right);
  const uint32_t right = place + left_size, after = right + right_size;
  if (slots_[place] != merge.left || slots_[right] != merge.right) return;
  const int64_t count = counts_[word_at_[place]];

  slots_[right] = kInside;
  if (left_size > 1) slots_[right - 1] = kInside;
  slots_[place] = merge.result;
  slots_[after - 1] = -static_cast<int32_t>(left_size + right_size);
  change(merge.left, merge.right, -count);

  if (const int32_t next = slots_[after]; next != kBorder) {
    change(merge.right, next, -count);
    see(merge.result, next, place, count);
  }
  const int32_t before = slots_[place - 1];
  if (before == kBorder) return;
  const uint32_t previous = before < 0 ? place - static_cast<uint32_t>(-before) : place - 1;
  change(slots_[previous], merge.left, -count);
  see(slots_[previous], merge.result, previous, count);
}

}  // namespace gatewright
