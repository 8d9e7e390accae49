// What programs with LibTorch do before they run a verb.
#pragma once

#include "command.h"

namespace gatewright::command {

/// run_command, with memory and threads set up for tensors.
int run_tensor_command(int argc, char** argv, const std::map<std::string, AddVerb>& implemented);

}  // namespace gatewright::command
