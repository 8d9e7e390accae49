// JSON lines as documents: one object a line, its text in "text", its domain (if it names one) in "domain".
#pragma once

#include <functional>
#include <string_view>

#include "gatewright/text/documents.h"

namespace gatewright {

/// Calls visit for each line that has text; counts empty ones. A line that is not a JSON object with a text,
/// or longer than options.max_document_bytes, is an error that names `name` and the line.
/// @param domain  of lines that name none
void read_json_lines(std::string_view bytes, std::string_view name, std::string_view domain,
                     const DocumentOptions& options, ReadSummary& summary,
                     const std::function<void(Document)>& visit);

}  // namespace gatewright
