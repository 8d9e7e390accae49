// The grammar of Jinja (version 3.1), with the tags break, continue and generation; without templates that
// refer to other templates (include, import, extends, block), call blocks and recursive loops.
#pragma once

#include <memory>
#include <string_view>

#include "gatewright/text/jinja/syntax.h"

namespace gatewright::jinja {

/// Errors name the line.
std::unique_ptr<const Template> parse_template(std::string_view source);

}  // namespace gatewright::jinja
