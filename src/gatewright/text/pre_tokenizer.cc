#include "gatewright/text/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

#include "gatewright/text/bert_scanner.h"
#include "gatewright/text/cl100k_scanner.h"
#include "gatewright/text/gpt2_scanner.h"
#include "gatewright/text/json_part.h"
#include "gatewright/text/regex.h"
#include "gatewright/text/split_patterns.h"
#include "gatewright/text/unicode_text.h"
#include "gatewright/text/utf8.h"

namespace gatewright {

class PreTokenizer::Step {
 public:
  virtual ~Step() = default;
  virtual void cut(const Piece& piece, Emit emit) const = 0;
  virtual Only only() const { return Only::kOther; }
  virtual bool lossless() const { return true; }
};

namespace {

using Piece = PreTokenizer::Piece;
using Emit = PreTokenizer::Emit;
using Only = PreTokenizer::Only;
using Step = PreTokenizer::Step;

/// What becomes of the matches of a pattern.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior behavior_of(const JsonPart& part, const char* otherwise) {
  const std::string name = part.text_or("behavior", otherwise);
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  fail(
      "{}: {}.behavior is {}; known are Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous",
      part.what(), part.path(), Quoted{name});
}

/// Takes matches and what lies between them, in order and without gaps, and emits pieces.
class Cutter {
 public:
  Cutter(const Piece& whole, Behavior behavior, Emit emit)
      : whole_(whole), behavior_(behavior), emit_(emit) {}

  void add(size_t begin, size_t end, bool is_match) {
    switch (behavior_) {
      case Behavior::kRemoved:
        if (!is_match) send(begin, end);
        return;
      case Behavior::kIsolated:
        return send(begin, end);
      case Behavior::kContiguous:
        return join_or_hold(begin, end, is_match, is_match == held_match_);
      case Behavior::kMergedWithPrevious:
        return join_or_hold(begin, end, is_match, is_match && !held_match_);
      case Behavior::kMergedWithNext:
        return join_or_hold(begin, end, is_match, held_match_ && !is_match);
    }
  }
  void finish() {
    if (holding_) send(begin_, end_);
    holding_ = false;
  }

 private:
  void join_or_hold(size_t begin, size_t end, bool is_match, bool joins) {
    if (holding_ && joins) {
      end_ = end;
      // What a match was merged with takes no second one.
      if (behavior_ == Behavior::kMergedWithNext || behavior_ == Behavior::kMergedWithPrevious)
        held_match_ = is_match;
      return;
    }
    finish();
    holding_ = true;
    begin_ = begin;
    end_ = end;
    held_match_ = is_match;
  }
  void send(size_t begin, size_t end) const {
    if (begin == end) return;
    emit_(Piece{.text = whole_.text.substr(begin, end - begin),
                .buffer = whole_.buffer,
                .begins_text = whole_.begins_text && begin == 0});
  }

  const Piece& whole_;
  Behavior behavior_;
  Emit emit_;
  bool holding_ = false, held_match_ = false;
  size_t begin_ = 0, end_ = 0;
};

/// `find(from)` gives the next match of the piece's text, if any.
template <typename Find>
void split(const Piece& piece, Behavior behavior, bool invert, const Find& find, Emit emit) {
  Cutter cutter(piece, behavior, emit);
  size_t done = 0;
  for (size_t from = 0; from < piece.text.size();) {
    const std::optional<Regex::Match> match = find(from);
    if (!match) break;
    if (match->begin > done) cutter.add(done, match->begin, invert);
    if (match->end > match->begin) cutter.add(match->begin, match->end, !invert);
    done = match->end;
    const char* const at = piece.text.data() + done;
    const char* const end = piece.text.data() + piece.text.size();
    from = done + (match->end > match->begin || at == end ? 0 : decode_utf8(at, end).size);
    if (done == piece.text.size()) break;
  }
  if (done < piece.text.size()) cutter.add(done, piece.text.size(), invert);
  cutter.finish();
}

class SplitRegex final : public Step {
 public:
  SplitRegex(Regex regex, Behavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  void cut(const Piece& piece, Emit emit) const override {
    split(
        piece, behavior_, invert_, [&](size_t from) { return regex_.find(piece.text, from); }, emit);
  }
  bool lossless() const override { return behavior_ != Behavior::kRemoved; }

 private:
  Regex regex_;
  Behavior behavior_;
  bool invert_;
};

class SplitText final : public Step {
 public:
  SplitText(std::string wanted, Behavior behavior, bool invert)
      : wanted_(std::move(wanted)), behavior_(behavior), invert_(invert) {}
  void cut(const Piece& piece, Emit emit) const override {
    const auto find = [&](size_t from) -> std::optional<Regex::Match> {
      const size_t at = piece.text.find(wanted_, from);
      if (at == std::string_view::npos) return std::nullopt;
      return Regex::Match{at, at + wanted_.size()};
    };
    split(piece, behavior_, invert_, find, emit);
  }
  bool lossless() const override { return behavior_ != Behavior::kRemoved; }

 private:
  std::string wanted_;
  Behavior behavior_;
  bool invert_;
};

/// Each character of a kind is a match.
class SplitCharacters final : public Step {
 public:
  using Wanted = bool (*)(uint32_t code);
  SplitCharacters(Wanted wanted, Behavior behavior) : wanted_(wanted), behavior_(behavior) {}
  void cut(const Piece& piece, Emit emit) const override {
    const char* const end = piece.text.data() + piece.text.size();
    const auto find = [&](size_t from) -> std::optional<Regex::Match> {
      for (const char* at = piece.text.data() + from; at < end;) {
        const Utf8Character c = decode_utf8(at, end);
        const auto begin = static_cast<size_t>(at - piece.text.data());
        if (wanted_(c.code)) return Regex::Match{begin, begin + c.size};
        at += c.size;
      }
      return std::nullopt;
    };
    split(piece, behavior_, false, find, emit);
  }
  bool lossless() const override { return behavior_ != Behavior::kRemoved; }

 private:
  Wanted wanted_;
  Behavior behavior_;
};

/// Runs of word characters, runs of what is neither a word character nor white space; white space is dropped.
class Whitespace final : public Step {
 public:
  void cut(const Piece& piece, Emit emit) const override {
    const char* const end = piece.text.data() + piece.text.size();
    const auto kind = [end](const char* at) {
      const uint32_t code = decode_utf8(at, end).code;
      return is_space(code) ? 0 : is_word(code) ? 1 : 2;
    };
    for (const char* at = piece.text.data(); at < end;) {
      const char* const begin = at;
      const int wanted = kind(begin);
      while (at < end && kind(at) == wanted) at += decode_utf8(at, end).size;
      if (wanted != 0)
        emit(Piece{.text = {begin, static_cast<size_t>(at - begin)},
                   .buffer = piece.buffer,
                   .begins_text = piece.begins_text && begin == piece.text.data()});
    }
  }
  bool lossless() const override { return false; }
};

template <typename Scanner, Only kind, bool takes_all = true>
class ScannerStep final : public Step {
 public:
  void cut(const Piece& piece, Emit emit) const override {
    for (Scanner scanner(piece.text); !scanner.done();) {
      const std::string_view word = scanner.next();
      emit(Piece{.text = word,
                 .buffer = piece.buffer,
                 .begins_text = piece.begins_text && word.data() == piece.text.data()});
    }
  }
  Only only() const override { return kind; }
  bool lossless() const override { return takes_all; }
};

/// Puts a space before each piece that does not begin with one.
class PrefixSpace final : public Step {
 public:
  void cut(const Piece& piece, Emit emit) const override {
    if (piece.text.starts_with(' ')) return emit(piece);
    std::string text(1, ' ');
    text += piece.text;
    emit(Piece{.text = text, .buffer = text, .begins_text = piece.begins_text});
  }
  bool lossless() const override { return false; }
};

enum class PrependScheme { kAlways, kFirst, kNever };

/// Spaces become the replacement, which may be put before the text, too, and may cut it.
class Metaspace final : public Step {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool cuts)
      : replacement_(std::move(replacement)), scheme_(scheme), cuts_(cuts) {}
  void cut(const Piece& piece, Emit emit) const override {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2);
    const bool prepends =
        (scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && piece.begins_text)) &&
        !piece.text.starts_with(' ') && !piece.text.starts_with(replacement_);
    if (prepends) text += replacement_;
    for (const char c : piece.text) {
      if (c == ' ')
        text += replacement_;
      else
        text += c;
    }
    const Piece replaced{.text = text, .buffer = text, .begins_text = piece.begins_text};
    if (!cuts_) return emit(replaced);
    const auto find = [&](size_t from) -> std::optional<Regex::Match> {
      const size_t at = text.find(replacement_, from);
      if (at == std::string::npos) return std::nullopt;
      return Regex::Match{at, at + replacement_.size()};
    };
    split(replaced, Behavior::kMergedWithNext, false, find, emit);
  }
  bool lossless() const override { return false; }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  bool cuts_;
};

struct Parsed {
  std::vector<std::unique_ptr<const Step>> steps;
  bool byte_level = false;
};

bool is_number(uint32_t code) {
  return character_class(character_class_table(), code) == CharacterClass::kNumber;
}

template <typename Scanner, Only kind>
std::unique_ptr<const Step> scanner_step() {
  return std::make_unique<ScannerStep<Scanner, kind>>();
}

std::unique_ptr<const Step> split_step(const JsonPart& part) {
  part.allow({"pattern", "behavior", "invert"});
  JsonPattern pattern = pattern_of(part);
  require(!pattern.text.empty(), "{}: {}.pattern must not be empty", part.what(), part.path());
  const Behavior behavior = behavior_of(part, "");
  const bool invert = part.flag_or("invert", false);
  if (!pattern.is_regex) return std::make_unique<SplitText>(std::move(pattern.text), behavior, invert);
  // These patterns match everything, so words that are kept are all words.
  if (behavior == Behavior::kIsolated || (behavior == Behavior::kRemoved && invert)) {
    switch (known_pattern(pattern.text)) {
      case KnownPattern::kGpt2:
        return scanner_step<Gpt2Scanner, Only::kGpt2>();
      case KnownPattern::kCl100k:
        return scanner_step<Cl100kScanner, Only::kCl100k>();
      case KnownPattern::kQwen2:
        return scanner_step<Qwen2Scanner, Only::kQwen2>();
      case KnownPattern::kNone:
        break;
    }
  }
  return std::make_unique<SplitRegex>(Regex(pattern.text, part.what()), behavior, invert);
}

void add_byte_level(const JsonPart& part, Parsed& parsed) {
  part.allow({"add_prefix_space", "trim_offsets", "use_regex"});
  parsed.byte_level = true;
  if (part.flag_or("add_prefix_space", true)) parsed.steps.push_back(std::make_unique<PrefixSpace>());
  if (part.flag_or("use_regex", true)) parsed.steps.push_back(scanner_step<Gpt2Scanner, Only::kGpt2>());
}

std::unique_ptr<const Step> metaspace(const JsonPart& part) {
  part.allow({"replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
  const bool prefix = part.flag_or("add_prefix_space", true);
  const std::string scheme = part.text_or("prepend_scheme", prefix ? "always" : "never");
  require(scheme == "always" || scheme == "first" || scheme == "never",
          "{}: {}.prepend_scheme is {}; known are always, first and never", part.what(), part.path(),
          Quoted{scheme});
  const std::string replacement = part.text_or("replacement", "\u2581");
  require(!replacement.empty() && replacement.size() <= 4, "{}: {}.replacement must be one character",
          part.what(), part.path());
  return std::make_unique<Metaspace>(replacement,
                                     scheme == "always"  ? PrependScheme::kAlways
                                     : scheme == "first" ? PrependScheme::kFirst
                                                         : PrependScheme::kNever,
                                     part.flag_or("split", true));
}

void add_bert(const JsonPart& part, Parsed& parsed) {
  part.allow({});
  parsed.steps.push_back(std::make_unique<ScannerStep<BertScanner, Only::kBert, false>>());
}

void add_steps(const JsonPart& part, int depth, Parsed& parsed) {
  require(depth < kDeepestPart && parsed.steps.size() < kMostParts, "{}: {} has too many parts", part.what(),
          part.path());
  const std::string& type = part.type();
  if (type == "Sequence") {
    part.allow({"pretokenizers"});
    size_t i = 0;
    for (const Json& item : part.list("pretokenizers"))
      add_steps(part.child(item, "pretokenizers", i++), depth + 1, parsed);
  } else if (type == "ByteLevel") {
    add_byte_level(part, parsed);
  } else if (type == "Split") {
    parsed.steps.push_back(split_step(part));
  } else if (type == "Digits") {
    part.allow({"individual_digits"});
    const bool individual = part.flag_or("individual_digits", false);
    parsed.steps.push_back(std::make_unique<SplitCharacters>(
        is_number, individual ? Behavior::kIsolated : Behavior::kContiguous));
  } else if (type == "Metaspace") {
    parsed.steps.push_back(metaspace(part));
  } else if (type == "Whitespace") {
    part.allow({});
    parsed.steps.push_back(std::make_unique<Whitespace>());
  } else if (type == "WhitespaceSplit") {
    part.allow({});
    parsed.steps.push_back(std::make_unique<SplitCharacters>(is_space, Behavior::kRemoved));
  } else if (type == "Punctuation") {
    part.allow({"behavior"});
    parsed.steps.push_back(std::make_unique<SplitCharacters>(is_punctuation, behavior_of(part, "Isolated")));
  } else if (type == "BertPreTokenizer") {
    add_bert(part, parsed);
  } else if (type == "CharDelimiterSplit") {
    part.allow({"delimiter"});
    parsed.steps.push_back(std::make_unique<SplitText>(part.text("delimiter"), Behavior::kRemoved, false));
  } else {
    part.fail_unknown();
  }
}

/// Digits alone and then GPT-2's pattern: one scanner does both.
bool is_digits_gpt2(const Json& json) {
  static const Json smollm = pre_tokenizer_family("smollm")->pre_tokenizer;
  return json == smollm;
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& json, std::string_view what) {
  if (json.is_null()) return;
  Parsed parsed;
  add_steps(JsonPart(json, what, "pre_tokenizer"), 0, parsed);
  steps_ = std::move(parsed.steps);
  byte_level_ = parsed.byte_level;
  if (is_digits_gpt2(json)) {
    steps_.clear();
    steps_.push_back(scanner_step<DigitsGpt2Scanner, Only::kDigitsGpt2>());
  }
  only_ = steps_.empty() ? Only::kNothing : steps_.size() == 1 ? steps_[0]->only() : Only::kOther;
}
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

bool PreTokenizer::lossless() const {
  return std::ranges::all_of(steps_, [](const auto& step) { return step->lossless(); });
}

void PreTokenizer::cut_from(size_t step, const Piece& piece, Emit emit) const {
  if (piece.text.empty()) return;
  if (step == steps_.size()) return emit(piece);
  const auto next = [this, step, emit](const Piece& part) { cut_from(step + 1, part, emit); };
  steps_[step]->cut(piece, next);
}

}  // namespace gatewright
