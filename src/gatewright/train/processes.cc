#include "gatewright/train/processes.h"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>

#include "gatewright/base/error.h"

#if defined(USE_C10D_GLOO) && __has_include(<gloo/context.h>)
#define GATEWRIGHT_GLOO 1
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

namespace gatewright {
namespace {

int64_t number_of(const char* name, int64_t least, int64_t most) {
  const char* text = std::getenv(name);
  require(text != nullptr,
          "WORLD_SIZE is set and {} is not; all of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT "
          "are needed",
          name);
  const std::string_view view(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  require(error == std::errc{} && end == view.data() + view.size() && value >= least && value <= most,
          "{} must be a whole number from {} to {}, got '{}'", name, least, most, view);
  return value;
}

#ifdef GATEWRIGHT_GLOO

class GlooGroup final : public ProcessGroup {
 public:
  GlooGroup(c10::intrusive_ptr<c10d::ProcessGroupGloo> group) : group_(std::move(group)) {}
  int64_t size() const override { return group_->getSize(); }
  int64_t rank() const override { return group_->getRank(); }

  Tensor sum(const Tensor& own) const override {
    std::vector<Tensor> tensors = {own.detach().clone()};
    group_->allreduce(tensors)->wait();
    return tensors[0];
  }

  Tensor gather(const Tensor& own) const override {
    std::vector<Tensor> input = {own.detach().contiguous()};
    std::vector<std::vector<Tensor>> output(1);
    for (int64_t i = 0; i < size(); ++i) output[0].push_back(at::empty_like(input[0]));
    group_->allgather(output, input)->wait();
    return at::stack(output[0]);
  }

 private:
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
};

#endif

}  // namespace

std::optional<ProcessAddress> process_address_from_environment() {
  if (std::getenv("WORLD_SIZE") == nullptr) return std::nullopt;
  constexpr int64_t kMostProcesses = 1 << 20, kLastPort = 65535;
  ProcessAddress address;
  address.size = number_of("WORLD_SIZE", 1, kMostProcesses);
  address.rank = number_of("RANK", 0, address.size - 1);
  address.port = number_of("MASTER_PORT", 1, kLastPort);
  const char* host = std::getenv("MASTER_ADDR");
  require(host != nullptr && *host != '\0', "WORLD_SIZE is set and MASTER_ADDR is not");
  address.host = host;
  return address;
}

#ifdef GATEWRIGHT_GLOO

bool can_connect_processes() { return true; }

std::unique_ptr<ProcessGroup> connect_processes(const ProcessAddress& address) {
  constexpr std::chrono::minutes kPatience{5};
  try {
    c10d::TCPStoreOptions store_options;
    store_options.port = static_cast<uint16_t>(address.port);
    store_options.isServer = address.rank == 0;
    store_options.numWorkers = static_cast<size_t>(address.size);
    store_options.timeout = kPatience;
    const auto store = c10::make_intrusive<c10d::TCPStore>(address.host, store_options);
    auto options = c10d::ProcessGroupGloo::Options::create(kPatience);
    options->devices.push_back(address.host == "127.0.0.1" || address.host == "localhost"
                                   ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                   : c10d::ProcessGroupGloo::createDefaultDevice());
    return std::make_unique<GlooGroup>(c10::make_intrusive<c10d::ProcessGroupGloo>(
        store, static_cast<int>(address.rank), static_cast<int>(address.size), options));
  } catch (const std::exception& error) {
    const std::string_view text = error.what();
    fail("process {} of {} can't reach the others at {}:{}: {}", address.rank, address.size, address.host,
         address.port, text.substr(0, text.find('\n')));
  }
}

#else

bool can_connect_processes() { return false; }

std::unique_ptr<ProcessGroup> connect_processes(const ProcessAddress&) {
  fail(
      "this build's LibTorch has no Gloo, which several processes need; Debian's libtorch-dev with "
      "libgloo-dev has");
}

#endif

}  // namespace gatewright
