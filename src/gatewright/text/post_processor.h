// The post-processor of a tokenizer: the tokens that stand before and after a text when they are asked for.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "gatewright/base/json.h"

namespace gatewright {

struct PostProcessor {
  std::vector<int32_t> before, after;

  /// As tokenizer.json has it for one text, null for none: Sequence, TemplateProcessing, BertProcessing,
  /// RobertaProcessing, ByteLevel. Errors name `what`; ids must lie below `vocab_size`.
  static PostProcessor read(const Json& json, int64_t vocab_size, std::string_view what);
};

/// The JSON of a template that puts these tokens around; null when there are none.
Json template_processing(const std::vector<int32_t>& before, const std::vector<int32_t>& after,
                         const std::vector<std::string>& tokens);

}  // namespace gatewright
