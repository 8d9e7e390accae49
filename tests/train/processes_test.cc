// Two processes of this test program over loopback compute the balance loss of one process with both halves.
#include "gatewright/train/processes.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "gatewright/routing/balance/switch.h"
#include "gatewright/routing/balance/terms.h"
#include "tests/routing/routing_testing.h"

namespace gatewright {
namespace {

constexpr int64_t kTokens = 8, kExperts = 4;

/// Tokens of a process: the halves are of different size.
std::pair<int64_t, int64_t> half(int64_t rank) { return rank == 0 ? std::pair(0, 3) : std::pair(3, 8); }

Scores scores_of_tokens(int64_t begin, int64_t end) {
  RandomStream random(1, "logits");
  return scores_of(leaf(normals({kTokens, kExperts}, random).slice(0, begin, end)));
}

Assignment top_2(const Scores& scores) {
  std::vector<std::vector<int32_t>> chosen;
  for (int64_t t = 0; t < scores.num_tokens(); ++t)
    chosen.push_back(choice::best_experts(to_floats(scores.logits[t]), 2));
  return assign(scores, chosen);
}

/// What both processes check.
void expect_one_batch(const ProcessGroup& group) {
  ASSERT_EQ(group.size(), 2);
  const auto [begin, end] = half(group.rank());
  const Scores mine = scores_of_tokens(begin, end), all = scores_of_tokens(0, kTokens);
  const Tensor loss =
      make_term("global_batch")->loss(mine, top_2(mine), {.training = true, .processes = &group});
  const Tensor pooled = make_term("global_batch")->loss(all, top_2(all), {.training = true});
  EXPECT_NEAR((group.sum(loss) / 2).item<double>(), pooled.item<double>(), 1e-6);
  loss.backward();
  pooled.backward();
  EXPECT_LT(difference(mine.logits.grad() / 2, all.logits.grad().slice(0, begin, end)), 1e-6)
      << "the mean of the processes' gradients is that of the pooled batch";

  const Tensor ranks = group.gather(at::full({2}, static_cast<double>(group.rank())));
  EXPECT_TRUE(at::equal(ranks, tensor({0, 0, 1, 1}, {2, 2})));

  const auto bias = [](const Scores& scores, const ProcessGroup* processes) {
    const auto term = make_term("loss_free_bias", {{"rate", 1.0}}, kExperts);
    term->loss(scores, top_2(scores), {.training = true, .processes = processes});
    term->end_step();
    ParameterList list;
    term->collect(list, "gate");
    return to_floats(list.at(0).tensor);
  };
  EXPECT_EQ(bias(mine, &group), bias(all, nullptr));
}

int64_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  require(socket >= 0 && bind(socket, plain, size) == 0 && getsockname(socket, plain, &size) == 0,
          "no free port on the loopback");
  close(socket);
  return ntohs(address.sin_port);
}

/// This program with only the test of the second process.
pid_t start_other_process(int64_t port) {
  std::vector<std::string> environment = {"RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
                                          "MASTER_PORT=" + std::to_string(port), "OMP_NUM_THREADS=1"};
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string_view entry = *e;
    if (!entry.starts_with("GTEST_") && !entry.starts_with("OMP_")) environment.emplace_back(entry);
  }
  std::vector<std::string> arguments = {"other", "--gtest_filter=*OtherOfTwo",
                                        "--gtest_also_run_disabled_tests"};
  const auto pointers = [](std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts) result.push_back(text.data());
    result.push_back(nullptr);
    return result;
  };
  pid_t pid = 0;
  require(posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, pointers(arguments).data(),
                      pointers(environment).data()) == 0,
          "the second process can't be started");
  return pid;
}

/// Run by TwoProcesses.ComputeTheLossOfOneBatch in a process of its own.
TEST(TwoProcesses, DISABLED_OtherOfTwo) {
  const auto address = process_address_from_environment();
  ASSERT_TRUE(address.has_value());
  EXPECT_EQ(address->rank, 1);
  expect_one_batch(*connect_processes(*address));
}

TEST(TwoProcesses, ComputeTheLossOfOneBatch) {
  if (!can_connect_processes()) GTEST_SKIP() << "this LibTorch has no Gloo";
  const ProcessAddress address{.rank = 0, .size = 2, .port = free_port()};
  const pid_t other = start_other_process(address.port);
  {
    const auto group = connect_processes(address);
    EXPECT_EQ(group->rank(), 0);
    expect_one_batch(*group);
  }
  int status = 0;
  waitpid(other, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the second process failed";
}

class ProcessAddressTest : public testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
  }
  static void set(const char* name, const char* value) { setenv(name, value, 1); }
};

TEST_F(ProcessAddressTest, ComesFromTheEnvironment) {
  EXPECT_FALSE(process_address_from_environment().has_value());
  set("WORLD_SIZE", "4");
  set("RANK", "3");
  set("MASTER_PORT", "29501");
  EXPECT_EQ(error_of([] { process_address_from_environment(); }), "WORLD_SIZE is set and MASTER_ADDR is not");
  set("MASTER_ADDR", "node7");
  const ProcessAddress address = process_address_from_environment().value();
  EXPECT_EQ(address.rank, 3);
  EXPECT_EQ(address.size, 4);
  EXPECT_EQ(address.host, "node7");
  EXPECT_EQ(address.port, 29501);
  set("RANK", "4");
  EXPECT_EQ(error_of([] { process_address_from_environment(); }),
            "RANK must be a whole number from 0 to 3, got '4'");
  unsetenv("RANK");
  EXPECT_EQ(
      error_of([] { process_address_from_environment(); }),
      "WORLD_SIZE is set and RANK is not; all of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are needed");
}

}  // namespace
}  // namespace gatewright
