// The commit that the programs were built from.
#pragma once

namespace gatewright::command {

/// Short hash, with "-dirty" when files had been changed; "unknown" outside a clone.
extern const char* const kCommit;

}  // namespace gatewright::command
