#include "gatewright/text/normalizer.h"

#include <algorithm>
#include <array>

#include "gatewright/text/base64.h"
#include "gatewright/text/character_map.h"
#include "gatewright/text/json_part.h"
#include "gatewright/text/regex.h"
#include "gatewright/text/unicode_text.h"
#include "gatewright/text/utf8.h"

namespace gatewright {

class Normalizer::Step {
 public:
  virtual ~Step() = default;
  /// False when the text stays as it is; else `out`, which is empty, takes the new one.
  virtual bool apply(std::string_view text, std::string& out) const = 0;
};

namespace {

constexpr size_t kMostGrowth = 64, kFreeGrowth = size_t{1} << 12;  // bytes a byte, and bytes

/// Calls each(code, bytes) for each character.
template <typename Each>
void each_character(std::string_view text, const Each& each) {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const Utf8Character c = decode_utf8(at, end);
    each(c.code, std::string_view(at, c.size));
    at += c.size;
  }
}

class UnicodeForm final : public Normalizer::Step {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  bool apply(std::string_view text, std::string& out) const override {
    if (surely_normal(form_, text)) return false;
    append_normal(form_, text, out);
    return true;
  }

 private:
  NormalForm form_;
};

void append_lower_case(std::string_view text, std::string& out) {
  each_character(text, [&out](uint32_t code, std::string_view bytes) {
    if (code < 0x80)
      out.push_back(static_cast<char>(code >= 'A' && code <= 'Z' ? code + 32 : code));
    else if (code == kInvalidUtf8)
      out.append(bytes);
    else
      append_lower(code, out);
  });
}

class Lowercase final : public Normalizer::Step {
 public:
  bool apply(std::string_view text, std::string& out) const override {
    append_lower_case(text, out);
    return true;
  }
};

class StripAccents final : public Normalizer::Step {
 public:
  bool apply(std::string_view text, std::string& out) const override {
    each_character(text, [&out](uint32_t code, std::string_view bytes) {
      if (code < 0x300 || !is_mark(code)) out.append(bytes);
    });
    return true;
  }
};

class Strip final : public Normalizer::Step {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  bool apply(std::string_view text, std::string& out) const override {
    size_t begin = text.size(), end = 0;
    each_character(text, [&](uint32_t code, std::string_view bytes) {
      if (is_space(code)) return;
      const auto at = static_cast<size_t>(bytes.data() - text.data());
      begin = std::min(begin, at);
      end = at + bytes.size();
    });
    if (begin < end || text.empty()) {
      out.append(text.substr(left_ ? begin : 0, (right_ ? end : text.size()) - (left_ ? begin : 0)));
    } else if (!left_ && !right_) {
      out.append(text);
    }
    return true;
  }

 private:
  bool left_, right_;
};

class Prepend final : public Normalizer::Step {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  bool apply(std::string_view text, std::string& out) const override {
    if (text.empty()) return false;
    out.reserve(prefix_.size() + text.size());
    out.append(prefix_).append(text);
    return true;
  }

 private:
  std::string prefix_;
};

class ReplaceText final : public Normalizer::Step {
 public:
  ReplaceText(std::string wanted, std::string content)
      : wanted_(std::move(wanted)), content_(std::move(content)) {}
  bool apply(std::string_view text, std::string& out) const override {
    size_t done = 0, at = text.find(wanted_);
    if (at == std::string_view::npos) return false;
    out.reserve(text.size() + text.size() / 2);
    for (; at != std::string_view::npos; at = text.find(wanted_, done)) {
      out.append(text.substr(done, at - done)).append(content_);
      done = at + wanted_.size();
    }
    out.append(text.substr(done));
    return true;
  }

 private:
  std::string wanted_, content_;
};

class ReplacePattern final : public Normalizer::Step {
 public:
  ReplacePattern(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  bool apply(std::string_view text, std::string& out) const override {
    size_t done = 0;
    for (size_t from = 0; from <= text.size();) {
      const auto match = pattern_.find(text, from);
      if (!match) break;
      out.append(text.substr(done, match->begin - done)).append(content_);
      done = match->end;
      from = match->end + (match->end == match->begin ? 1 : 0);
    }
    out.append(text.substr(std::min(done, text.size())));
    return true;
  }

 private:
  Regex pattern_;
  std::string content_;
};

/// BERT's: control characters away, every space a blank, blanks around ideographs, accents away, lower case.
class BertNormalizer final : public Normalizer::Step {
 public:
  struct Options {
    bool clean_text, handle_chinese_chars, strip_accents, lowercase;
  };
  explicit BertNormalizer(Options options) : options_(options) {
    for (uint32_t code = 0; code < ascii_.size(); ++code) {
      std::string cleaned, lower;
      const char c = static_cast<char>(code);
      clean(code, {&c, 1}, cleaned);
      append_lower_case(cleaned, lower);
      const std::string& made = options_.lowercase ? lower : cleaned;
      ascii_[code] = made.empty() ? kDropped : made[0];
    }
  }
  /// Characters of ASCII that stay melt with nothing before them, so that what lies between them can be taken
  /// by itself.
  bool apply(std::string_view text, std::string& out) const override {
    out.resize(text.size());
    char* to = out.data();
    size_t at = 0;
    const auto copy_ascii = [&] {
      for (char made = 0; at < text.size() && (made = ascii(text[at])) != kDropped; ++at) *to++ = made;
    };
    copy_ascii();
    Buffers buffers;
    std::string others;
    for (size_t done = 0; at < text.size(); copy_ascii()) {
      const size_t begin = at;
      while (at < text.size() && ascii(text[at]) == kDropped) ++at;
      others.clear();
      append_others(text.substr(begin, at - begin), buffers, others);
      // Room for them and, at worst, all that comes.
      done = static_cast<size_t>(to - out.data());
      if (const size_t room = done + others.size() + (text.size() - at); room > out.size())
        out.resize(room + room / 8);
      to = std::ranges::copy(others, out.data() + done).out;
    }
    out.resize(static_cast<size_t>(to - out.data()));
    return true;
  }

 private:
  static constexpr char kDropped = 0;  // NUL itself is dropped, too, or stays with the others

  /// What a byte becomes by itself; kDropped when it becomes nothing or is no ASCII.
  char ascii(char c) const {
    const auto byte = static_cast<uint8_t>(c);
    return byte < 0x80 ? ascii_[byte] : kDropped;
  }

  struct Buffers {
    std::string cleaned, decomposed, stripped;
  };
  void append_others(std::string_view text, Buffers& buffers, std::string& out) const {
    std::string &cleaned = buffers.cleaned, &stripped = buffers.stripped;
    cleaned.clear();
    each_character(text, [&](uint32_t code, std::string_view bytes) { clean(code, bytes, cleaned); });
    if (options_.strip_accents && !surely_normal(NormalForm::kNfd, cleaned)) {
      buffers.decomposed.clear();
      stripped.clear();
      append_normal(NormalForm::kNfd, cleaned, buffers.decomposed);
      each_character(buffers.decomposed, [&](uint32_t code, std::string_view bytes) {
        if (code < 0x300 || !is_nonspacing_mark(code)) stripped.append(bytes);
      });
      cleaned.swap(stripped);
    }
    if (options_.lowercase)
      append_lower_case(cleaned, out);
    else
      out.append(cleaned);
  }

  void clean(uint32_t code, std::string_view bytes, std::string& out) const {
    if (options_.clean_text) {
      const bool separates = code == '\t' || code == '\n' || code == '\r';
      if (code == 0 || code == 0xFFFD || (is_control(code) && !separates)) return;
      if (separates || is_space(code)) return out.push_back(' ');
    }
    const bool apart = options_.handle_chinese_chars && code >= 0x3400 && is_han(code);
    if (apart) out.push_back(' ');
    out.append(bytes);
    if (apart) out.push_back(' ');
  }

  Options options_;
  std::array<char, 128> ascii_;
};

class Precompiled final : public Normalizer::Step {
 public:
  explicit Precompiled(CharacterMap map) : map_(std::move(map)) {}
  bool apply(std::string_view text, std::string& out) const override {
    out.reserve(text.size());
    map_.append(text, out);
    return true;
  }

 private:
  CharacterMap map_;
};

using Steps = std::vector<std::unique_ptr<const Normalizer::Step>>;

std::unique_ptr<const Normalizer::Step> replacement(const JsonPart& part) {
  part.allow({"pattern", "content"});
  JsonPattern pattern = pattern_of(part);
  require(!pattern.text.empty(), "{}: {}.pattern must not be empty", part.what(), part.path());
  require(part.text("content").size() <= kLongestReplacement, "{}: {}.content has more than {} bytes",
          part.what(), part.path(), kLongestReplacement);
  if (!pattern.is_regex) return std::make_unique<ReplaceText>(std::move(pattern.text), part.text("content"));
  return std::make_unique<ReplacePattern>(Regex(pattern.text, part.what()), part.text("content"));
}

std::unique_ptr<const Normalizer::Step> bert_normalizer(const JsonPart& part) {
  part.allow({"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"});
  const bool lowercase = part.flag_or("lowercase", true);
  return std::make_unique<BertNormalizer>(
      BertNormalizer::Options{.clean_text = part.flag_or("clean_text", true),
                              .handle_chinese_chars = part.flag_or("handle_chinese_chars", true),
                              .strip_accents = part.flag_or("strip_accents", lowercase),
                              .lowercase = lowercase});
}

std::unique_ptr<const Normalizer::Step> precompiled(const JsonPart& part) {
  part.allow({"precompiled_charsmap"});
  const auto bytes = from_base64(part.text_or("precompiled_charsmap", ""));
  require(bytes.has_value(), "{}: {}.precompiled_charsmap is not base64", part.what(), part.path());
  return std::make_unique<Precompiled>(CharacterMap(*bytes, part.what()));
}

std::unique_ptr<const Normalizer::Step> step_of(const JsonPart& part) {
  const std::string& type = part.type();
  const auto form = [&](NormalForm f) {
    part.allow({});
    return std::make_unique<UnicodeForm>(f);
  };
  if (type == "NFC") return form(NormalForm::kNfc);
  if (type == "NFD") return form(NormalForm::kNfd);
  if (type == "NFKC") return form(NormalForm::kNfkc);
  if (type == "NFKD") return form(NormalForm::kNfkd);
  if (type == "Replace") return replacement(part);
  if (type == "BertNormalizer") return bert_normalizer(part);
  if (type == "Precompiled") return precompiled(part);
  if (type == "Prepend") {
    part.allow({"prepend"});
    require(part.text("prepend").size() <= kLongestReplacement, "{}: {}.prepend has more than {} bytes",
            part.what(), part.path(), kLongestReplacement);
    return std::make_unique<Prepend>(part.text("prepend"));
  }
  if (type == "Strip") {
    part.allow({"strip_left", "strip_right"});
    return std::make_unique<Strip>(part.flag_or("strip_left", true), part.flag_or("strip_right", true));
  }
  if (type == "Lowercase") {
    part.allow({});
    return std::make_unique<Lowercase>();
  }
  if (type == "StripAccents") {
    part.allow({});
    return std::make_unique<StripAccents>();
  }
  part.fail_unknown();
}

void add_steps(const JsonPart& part, int depth, Steps& steps) {
  require(depth < kDeepestPart && steps.size() < kMostParts, "{}: {} has too many parts", part.what(),
          part.path());
  if (part.type() != "Sequence") return steps.push_back(step_of(part));
  part.allow({"normalizers"});
  size_t i = 0;
  for (const Json& item : part.list("normalizers"))
    add_steps(part.child(item, "normalizers", i++), depth + 1, steps);
}

}  // namespace

Normalizer::Normalizer(const Json& json, std::string_view what) {
  if (!json.is_null()) add_steps(JsonPart(json, what, "normalizer"), 0, steps_);
}
Normalizer::~Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;

std::string_view Normalizer::apply(std::string_view text, std::string& buffer) const {
  std::string next;
  const size_t most = kMostGrowth * text.size() + kFreeGrowth;
  for (const auto& step : steps_) {
    next.clear();
    if (!step->apply(text, next)) continue;
    require(next.size() <= most, "the normaliser makes more than {} bytes of a text of {}", most,
            text.size());
    buffer.swap(next);
    text = buffer;
  }
  return text;
}

}  // namespace gatewright
