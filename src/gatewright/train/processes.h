// Processes that train one model together, found by the variables that torchrun sets, connected by LibTorch's
// c10d (Gloo).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gatewright/routing/process_group.h"

namespace gatewright {

/// Where the processes of one training meet.
struct ProcessAddress {
  int64_t rank = 0;
  int64_t size = 1;
  std::string host = "127.0.0.1";  // of rank 0, which listens there
  int64_t port = 29500;
};

/// From RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; nothing when WORLD_SIZE is not set. Values that make
/// no sense are errors that name the variable.
std::optional<ProcessAddress> process_address_from_environment();

/// Whether this build's LibTorch has c10d with Gloo.
bool can_connect_processes();

/// Waits until all `size` processes are there. Fails when this build's LibTorch has no Gloo, and after five
/// minutes without an answer.
std::unique_ptr<ProcessGroup> connect_processes(const ProcessAddress& address);

}  // namespace gatewright
