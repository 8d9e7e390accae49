#include "gatewright/text/token_decoder.h"

#include "gatewright/text/json_part.h"
#include "gatewright/text/tokenizer_model.h"

namespace gatewright {
namespace {

void replace_all(std::string& text, std::string_view wanted, std::string_view content) {
  size_t at = text.find(wanted);
  if (at == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (; at != std::string::npos; at = text.find(wanted, done)) {
    out.append(text, done, at - done).append(content);
    done = at + wanted.size();
  }
  text = out.append(text, done);
}

}  // namespace

TokenDecoder::TokenDecoder(const TokenizerDefinition& definition, std::string_view what) {
  if (!definition.decoder.is_null()) add(definition.decoder, what, "decoder", 0);
}

void TokenDecoder::add(const Json& json, std::string_view what, std::string_view path, int depth) {
  const JsonPart part(json, what, path);
  std::vector<Step>& steps = fused_ ? text_steps_ : token_steps_;
  require(depth < kDeepestPart && steps.size() < kMostParts, "{}: {} has too many parts", what, path);
  const std::string& type = part.type();
  if (type == "Sequence") {
    part.allow({"decoders"});
    size_t i = 0;
    for (const Json& item : part.list("decoders"))
      add(item, what, fmt::format("{}.decoders[{}]", path, i++), depth + 1);
  } else if (type == "ByteLevel") {
    // The tokens are bytes already.
    part.allow({"add_prefix_space", "trim_offsets", "use_regex"});
  } else if (type == "Fuse") {
    part.allow({});
    fused_ = true;
  } else if (type == "ByteFallback") {
    part.allow({});
    steps.push_back({.kind = Step::Kind::kByteFallback});
  } else if (type == "Replace") {
    part.allow({"pattern", "content"});
    const JsonPattern pattern = pattern_of(part);
    require(!pattern.is_regex && !pattern.text.empty(), "{}: {}.pattern must be a String that is not empty",
            what, path);
    require(part.text("content").size() <= kLongestReplacement, "{}: {}.content has more than {} bytes", what,
            path, kLongestReplacement);
    steps.push_back({.kind = Step::Kind::kReplace, .pattern = pattern.text, .content = part.text("content")});
  } else if (type == "Strip") {
    part.allow({"content", "start", "stop"});
    require(!part.text("content").empty(), "{}: {}.content must not be empty", what, path);
    steps.push_back({.kind = Step::Kind::kStrip,
                     .pattern = part.text("content"),
                     .start = static_cast<size_t>(part.integer_or("start", 0)),
                     .stop = static_cast<size_t>(part.integer_or("stop", 0))});
  } else if (type == "Metaspace") {
    part.allow({"replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
    const bool prefix = part.flag_or("add_prefix_space", true);
    drops_first_space_ = part.text_or("prepend_scheme", prefix ? "always" : "never") != "never";
    const std::string replacement = part.text_or("replacement", "\u2581");
    require(!replacement.empty(), "{}: {}.replacement must not be empty", what, path);
    steps.push_back({.kind = Step::Kind::kReplace, .pattern = replacement, .content = " "});
  } else if (type == "WordPiece") {
    part.allow({"prefix", "cleanup"});
    steps.push_back({.kind = Step::Kind::kWordPiece, .pattern = part.text_or("prefix", "##")});
    cleans_up_ = part.flag_or("cleanup", true);
    drops_first_space_ = true;
  } else {
    part.fail_unknown();
  }
}

void TokenDecoder::apply(const Step& step, std::string& text) {
  switch (step.kind) {
    case Step::Kind::kReplace:
      return replace_all(text, step.pattern, step.content);
    case Step::Kind::kByteFallback:
      if (const auto byte = byte_of_name(text)) text.assign(1, static_cast<char>(*byte));
      return;
    case Step::Kind::kStrip: {
      size_t begin = 0, end = text.size();
      const std::string_view view = text;
      for (size_t n = 0; n < step.start && view.substr(begin).starts_with(step.pattern); ++n)
        begin += step.pattern.size();
      for (size_t n = 0; n < step.stop && view.substr(begin, end - begin).ends_with(step.pattern); ++n)
        end -= step.pattern.size();
      text = text.substr(begin, end - begin);
      return;
    }
    case Step::Kind::kWordPiece:
      if (!step.pattern.empty() && text.starts_with(step.pattern))
        text.erase(0, step.pattern.size());
      else
        text.insert(text.begin(), ' ');
      return;
  }
}

std::vector<std::string> TokenDecoder::pieces(const TokenizerDefinition& definition) const {
  std::vector<std::string> pieces = definition.tokens;
  if (token_steps_.empty()) return pieces;
  const AddedIds ids(definition);
  for (size_t id = 0; id < pieces.size(); ++id) {
    for (const Step& step : token_steps_)
      if (!ids.added[id] || step.kind == Step::Kind::kWordPiece) apply(step, pieces[id]);
  }
  return pieces;
}

std::string TokenDecoder::finish(std::string text) const {
  if (drops_first_space_ && text.starts_with(' ')) text.erase(0, 1);
  for (const Step& step : text_steps_) apply(step, text);
  if (!cleans_up_) return text;
  for (const auto& [wanted, content] : {std::pair(" .", "."),
                                        {" ?", "?"},
                                        {" !", "!"},
                                        {" ,", ","},
                                        {" ' ", "'"},
                                        {" n't", "n't"},
                                        {" 'm", "'m"},
                                        {" do not", " don't"},
                                        {" 's", "'s"},
                                        {" 've", "'ve"},
                                        {" 're", "'re"}})
    replace_all(text, wanted, content);
  return text;
}

}  // namespace gatewright
