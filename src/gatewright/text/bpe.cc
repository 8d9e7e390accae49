#include "gatewright/text/bpe.h"

#include <algorithm>

#include "gatewright/base/error.h"
#include "gatewright/base/quoted.h"

namespace gatewright {
namespace {

constexpr uint32_t kLongestWord = uint32_t{1} << 30;
/// Each thread keeps the memory for words of up to this many bytes: 28 times as much.
constexpr uint32_t kKeptWord = uint32_t{1} << 16;

std::vector<bool> added_ids(const BpeVocabulary& vocabulary) {
  std::vector<bool> added(vocabulary.tokens.size());
  for (const AddedToken& token : vocabulary.added) added[static_cast<size_t>(token.id)] = true;
  return added;
}

void check_merge(const BpeVocabulary& vocabulary, const std::vector<bool>& added, size_t rank,
                 std::string_view what) {
  const BpeMerge& merge = vocabulary.merges[rank];
  const auto known = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < vocabulary.tokens.size();
  };
  require(known(merge.left) && known(merge.right) && known(merge.result),
          "{}: merge {} names a token that the vocabulary does not have", what, rank);
  const auto token = [&](int32_t id) -> const std::string& {
    return vocabulary.tokens[static_cast<size_t>(id)];
  };
  const std::string& left = token(merge.left);
  const std::string& right = token(merge.right);
  const std::string& result = token(merge.result);
  require(result.size() == left.size() + right.size() && result.starts_with(left) && result.ends_with(right),
          "{}: merge {} joins {} and {} to {}", what, rank, Quoted{left}, Quoted{right}, Quoted{result});
  for (const int32_t id : {merge.left, merge.right, merge.result})
    require(!added[static_cast<size_t>(id)], "{}: merge {} uses the added token {}", what, rank,
            Quoted{token(id)});
}

}  // namespace

BpeMerger::BpeMerger(const BpeVocabulary& vocabulary, std::string_view what)
    : table_(vocabulary.merges.size()) {
  const std::vector<bool> added = added_ids(vocabulary);
  byte_token_.fill(-1);
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const std::string& token = vocabulary.tokens[id];
    if (token.size() == 1 && !added[id])
      byte_token_[static_cast<uint8_t>(token[0])] = static_cast<int32_t>(id);
  }
  for (size_t byte = 0; byte < 256; ++byte)
    require(byte_token_[byte] >= 0,
            "{}: the vocabulary has no token for the byte {:#04x}; a byte-level vocabulary needs all 256",
            what, byte);
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    check_merge(vocabulary, added, rank, what);
    const BpeMerge& merge = vocabulary.merges[rank];
    const Merged merged{.rank = static_cast<int32_t>(rank), .result = merge.result};
    require(table_.insert(merge.left, merge.right, merged).is_new, "{}: merge {} repeats an earlier one",
            what, rank);
  }
}

/// One word while it is merged. Each token lives at the place of its first byte, linked to its neighbours; a
/// tournament over the places holds the rank of each token with the next one, so its winner is the pair to
/// merge.
class BpeMerger::Word {
 public:
  void encode(const BpeMerger& merger, std::string_view word, std::vector<int32_t>& out) {
    lay_out(merger, word);
    while (winner_[1] < kNoPair) merge(merger, static_cast<uint32_t>(winner_[1]));
    for (uint32_t place = 0; place < count_; place = next_[place]) out.push_back(ids_[place]);
  }

 private:
  static constexpr uint64_t kNoPair = uint64_t{kNever} << 32;

  void lay_out(const BpeMerger& merger, std::string_view word) {
    count_ = static_cast<uint32_t>(word.size());
    if (ids_.size() < count_) {
      ids_.resize(count_);
      next_.resize(count_);
      previous_.resize(count_);
      winner_.resize(2 * size_t{count_});
    }
    for (uint32_t place = 0; place < count_; ++place) {
      ids_[place] = merger.byte_token_[static_cast<uint8_t>(word[place])];
      next_[place] = place + 1;
      previous_[place] = place - 1;  // never followed from place 0
    }
    for (uint32_t place = 0; place < count_; ++place) winner_[count_ + place] = pair_at(merger, place);
    for (uint32_t node = count_ - 1; node > 0; --node)
      winner_[node] = std::min(winner_[2 * node], winner_[2 * node + 1]);
  }

  /// Rank and place of the pair that begins here: the smaller is the one to merge first.
  uint64_t pair_at(const BpeMerger& merger, uint32_t place) const {
    if (next_[place] == count_) return kNoPair;
    return uint64_t(merger.merged(ids_[place], ids_[next_[place]]).rank) << 32 | place;
  }

  void merge(const BpeMerger& merger, uint32_t left) {
    const uint32_t right = next_[left];
    ids_[left] = merger.merged(ids_[left], ids_[right]).result;
    next_[left] = next_[right];
    if (next_[left] < count_) previous_[next_[left]] = left;
    play(right, kNoPair);
    play(left, pair_at(merger, left));
    if (left > 0) play(previous_[left], pair_at(merger, previous_[left]));
  }

  void play(uint32_t place, uint64_t pair) {
    size_t node = size_t{count_} + place;
    winner_[node] = pair;
    for (; node > 1; node /= 2) {
      const uint64_t best = std::min(winner_[node], winner_[node ^ 1]);
      if (winner_[node / 2] == best) break;
      winner_[node / 2] = best;
    }
  }

  uint32_t count_ = 0;
  std::vector<int32_t> ids_;
  std::vector<uint32_t> next_, previous_;
  std::vector<uint64_t> winner_;  // leaves at [count, 2 count), the parent of i is i / 2, the root is 1
};

void BpeMerger::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  require(word.size() <= kLongestWord, "cannot encode a word of {} bytes: the limit is {}", word.size(),
          kLongestWord);
  thread_local Word kept;
  if (word.size() <= kKeptWord)
    kept.encode(*this, word, out);
  else
    Word().encode(*this, word, out);
}

}  // namespace gatewright
