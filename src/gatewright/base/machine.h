// The machine that a measurement was made on.
#pragma once

#include <string>

namespace gatewright {

/// "2 threads of Intel(R) Xeon(R) Processor": the threads in use and the processor's name.
std::string machine_description();

}  // namespace gatewright
