#include "gatewright/text/sentencepiece_model.h"

#include "gatewright/base/error.h"
#include "gatewright/text/post_processor.h"
#include "gatewright/text/protobuf.h"
#include "gatewright/text/sentencepiece_definition.h"

namespace gatewright {
namespace {

using Field = ProtobufReader::Field;
using Wire = ProtobufReader::Wire;

class PieceReader {
 public:
  explicit PieceReader(std::string_view what) : what_(what) {}

  TokenizerDefinition read(std::string_view bytes) {
    ProtobufReader fields(bytes, what_);
    while (const auto field = fields.next()) {
      if (field->number < 1 || field->number > 3) continue;  // self tests, the way back
      fields.expect(*field, Wire::kBytes, "a part of the model");
      if (field->number == 1) read_piece(field->bytes);
      if (field->number == 2) read_trainer(field->bytes);
      if (field->number == 3) read_normalizer(field->bytes);
    }
    require(!vocabulary_.tokens.empty(), "{}: the model has no pieces", what_);
    require(model_type_ == kUnigram || model_type_ == kBpe,
            "{}: the model has the type {}; read are 1 (Unigram) and 2 (BPE)", what_, model_type_);
    vocabulary_.kind = model_type_ == kBpe ? TokenizerKind::kScoredBpe : TokenizerKind::kUnigram;
    const size_t count = vocabulary_.tokens.size();
    TokenizerDefinition made = sentencepiece_definition(std::move(vocabulary_), what_);
    made.begin = id("bos_id", begin_, 1, count);
    made.end = id("eos_id", end_, 2, count);
    made.padding = id("pad_id", padding_, -1, count);
    // Models of type BPE are decoders', whose texts begin with a token of their own.
    if (model_type_ == kBpe && made.begin)
      made.post_processor = template_processing({*made.begin}, {}, made.tokens);
    return made;
  }

 private:
  static constexpr int64_t kUnigram = 1, kBpe = 2;

  void read_piece(std::string_view bytes) {
    std::string piece;
    double score = 0;
    int64_t type = 1;
    ProtobufReader fields(bytes, what_);
    while (const auto field = fields.next()) {
      if (field->number == 1) {
        fields.expect(*field, Wire::kBytes, "a piece");
        piece = field->bytes;
      } else if (field->number == 2) {
        fields.expect(*field, Wire::kFixed32, "a score");
        score = field->real();
      } else if (field->number == 3) {
        fields.expect(*field, Wire::kVarint, "the type of a piece");
        type = field->integer();
      }
    }
    vocabulary_.types.push_back(token_type(type, vocabulary_.tokens.size(), what_));
    vocabulary_.tokens.push_back(std::move(piece));
    vocabulary_.scores.push_back(score);
  }

  void read_trainer(std::string_view bytes) {
    ProtobufReader fields(bytes, what_);
    while (const auto field = fields.next()) {
      std::optional<int64_t>* const wanted = field->number == 41   ? &begin_
                                             : field->number == 42 ? &end_
                                             : field->number == 43 ? &padding_
                                                                   : nullptr;
      const bool suffix = field->number == 24, type = field->number == 3;
      if (!wanted && !suffix && !type) continue;
      fields.expect(*field, Wire::kVarint, "a setting of the trainer");
      if (wanted) *wanted = field->integer();
      if (type) model_type_ = field->integer();
      require(!suffix || field->value == 0,
              "{}: spaces at the end of words (treat_whitespace_as_suffix) are not supported", what_);
    }
  }

  void read_normalizer(std::string_view bytes) {
    vocabulary_.remove_extra_spaces = true;
    ProtobufReader fields(bytes, what_);
    while (const auto field = fields.next()) {
      if (field->number == 2) {
        fields.expect(*field, Wire::kBytes, "the character map");
        vocabulary_.character_map = field->bytes;
      }
      if (field->number < 3 || field->number > 5) continue;
      fields.expect(*field, Wire::kVarint, "a setting of the normaliser");
      if (field->number == 3) vocabulary_.add_space_prefix = field->value != 0;
      if (field->number == 4) vocabulary_.remove_extra_spaces = field->value != 0;
      require(field->number != 5 || field->value != 0,
              "{}: spaces that stay spaces (escape_whitespaces) are not supported", what_);
    }
  }

  /// -1 for none. What the file does not give is the format's own choice, where there is such a token.
  std::optional<int32_t> id(std::string_view name, const std::optional<int64_t>& value, int32_t otherwise,
                            size_t count) const {
    const auto given = value ? static_cast<int32_t>(*value) : otherwise;
    if (given == -1 || (!value && static_cast<size_t>(given) >= count)) return std::nullopt;
    require(given >= 0 && static_cast<size_t>(given) < count, "{}: {} is {}, the model has ids 0 to {}",
            what_, name, given, count - 1);
    return given;
  }

  std::string_view what_;
  SentencePieceVocabulary vocabulary_;
  int64_t model_type_ = kUnigram;
  std::optional<int64_t> begin_, end_, padding_;
};

}  // namespace

TokenizerDefinition read_sentencepiece_model(std::string_view bytes, std::string_view what) {
  return PieceReader(what).read(bytes);
}

}  // namespace gatewright
