#include "gatewright/text/word_cache.h"

#include <atomic>

namespace gatewright {

WordCache& WordCache::of_this_thread() {
  thread_local WordCache cache;
  return cache;
}

uint64_t WordCache::new_owner() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace gatewright
