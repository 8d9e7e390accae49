// Everything with a name, as JSON: {"scorers": [{"name", "summary", "source", "formula", "parameters":
// [...]}], ...}. gatewright-tensor makes it from the registries; gatewright carries it as text, made when it
// was built.
#pragma once

#include "gatewright/base/json.h"

namespace gatewright::command {

/// From the registries (gatewright-tensor).
OrderedJson make_catalogue();
/// The text that was compiled in (gatewright).
std::string_view catalogue_text();

}  // namespace gatewright::command
