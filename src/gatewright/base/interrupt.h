// Ctrl-C: long work asks whether it was asked to stop, saves and ends by itself.
#pragma once

namespace gatewright {

/// From here on the first SIGINT or SIGTERM only sets a flag; a second one ends the process.
void catch_interrupts();
bool interrupted();
/// What was asked to stop has stopped: from here on it was not asked.
void clear_interrupt();

}  // namespace gatewright
