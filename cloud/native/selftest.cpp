// Runs a scheduler with many threads at once: clients of three kinds, withdrawn requests, reloaded
// models, and a ticking clock. Every request must get the answer that it gets when it runs alone.
// Usage: taper_scheduling_selftest [REQUESTS of each client]. Exits with 1 if an answer is wrong or
// missing.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dispatch.hpp"
#include "dispatcher.hpp"
#include "scheduler.hpp"
#include "wire.hpp"

namespace {

using namespace taper;

constexpr int kClasses = 10;
constexpr int kSampleBytes = 32;
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr int kClients = 6;
constexpr int kThreads = 3;
constexpr int kReloads = 50;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Makes a network of one linear layer from kSampleBytes of bits to logits, with one device level
// and two cloud levels.
std::shared_ptr<const Half> make_half() {
  std::mt19937 random(7);
  Stage stage{};
  stage.kind = Kind::kBinaryLinear;
  stage.in_channels = 8 * kSampleBytes;
  stage.out_channels = kClasses;
  stage.pool = stage.stride = 1;
  stage.weight.resize(kClasses * kSampleBytes);
  for (auto& byte : stage.weight) byte = static_cast<std::uint8_t>(random());
  stage.coefficients.assign(8 * kSampleBytes, 1);
  stage.scale.assign(2 * kClasses, 1.0f);
  stage.bias.assign(2 * kClasses, 0.0f);
  HalfSpec spec{1, 1, 8 * kSampleBytes, {stage}, {{8 * kSampleBytes, {kClasses}}, {8 * kSampleBytes, {kClasses}}}};
  return std::make_shared<Half>(spec, portable_kernels());
}

std::shared_ptr<Model> make_model(const std::shared_ptr<const Half>& half) {
  auto model = std::make_shared<Model>("net", "0123456789abcdef", std::vector<double>{0.5, 1.0},
                                       std::vector<std::vector<double>>{{1e4, 2e4}});
  auto engine = std::make_shared<Engine>(half, model->name(), model->version(),
                                         std::vector<EngineLevel>{{nullptr, 8 * kSampleBytes}}, 2,
                                         kClasses, 64);
  model->set_engine(std::move(engine));
  return model;
}

std::string payload_of(std::mt19937& random, std::size_t samples) {
  std::string payload(samples * kSampleBytes, '\0');
  for (auto& byte : payload) byte = static_cast<char>(random());
  return payload;
}

std::string request_of(std::uint64_t id, const std::string& payload, std::size_t samples) {
  std::string request;
  put_number(request, 1, id);
  put_number(request, 5, kEncodingRaw);
  put_number(request, 6, samples);
  put_bytes(request, 7, payload);
  return request;
}

// The results of a response without its times. They are equal at both cloud levels.
std::string results_of(const std::string& response) {
  WireReader reader(response);
  std::string results;
  std::uint64_t field = 0;
  std::uint64_t number = 0;
  std::uint32_t type = 0;
  std::string_view bytes;
  while (!reader.done() && reader.tag(field, type)) {
    if (type == kVarint && reader.varint(number)) continue;
    if (type != taper::kBytes || !reader.bytes(bytes)) break;
    if (field == 2) results.append(bytes).push_back('|');
  }
  return results;
}

struct Tally {
  std::atomic<int> answered{0};
  std::atomic<int> refused{0};
  std::atomic<int> withdrawn{0};
  std::atomic<int> wrong{0};
};

// Runs one client that sends `count` requests of up to `largest` samples and withdraws some of
// them.
void ask(Scheduler& scheduler, const Half& half, int number, int count, std::size_t largest,
         Tally& tally) {
  std::mt19937 random(static_cast<unsigned>(number));
  const std::string client = "client " + std::to_string(number % 4);
  const auto stream = std::make_shared<StreamState>();
  for (int i = 0; i < count; ++i) {
    const std::size_t samples = 1 + random() % largest;
    const std::string payload = payload_of(random, samples);
    std::vector<float> logits(samples * kClasses);
    half.run(0, reinterpret_cast<const std::uint8_t*>(payload.data()), samples,
             reinterpret_cast<std::uint8_t*>(logits.data()));
    const std::string wanted =
        results_of(write_response({}, logits.data(), samples, kClasses, 0));
    const auto judge = [&tally, wanted](const Outcome& outcome) {
      if (outcome.status != Status::kOk) {
        ++tally.refused;
      } else {
        if (results_of(outcome.response) != wanted) ++tally.wrong;
        ++tally.answered;
      }
    };
    auto answer = scheduler.infer(request_of(static_cast<std::uint64_t>(i) + 1, payload, samples),
                                  client, i % 7 == 0 ? 0.05 : kNever, stream, judge);
    if (answer.begun == Begun::kDone) judge(answer.outcome);
    if (answer.begun == Begun::kElsewhere) ++tally.wrong;
    if (answer.begun == Begun::kQueued && i % 5 == 0 && scheduler.withdraw(answer.ticket)) {
      ++tally.withdrawn;
    }
    scheduler.count(0, payload.size(), 1);
  }
}

}  // namespace

int main(int count, char** words) {
  const int requests = count > 1 ? std::atoi(words[1]) : 2000;
  const auto half = make_half();
  const DispatcherSettings settings{16, 1e-3, 60.0, 8192, std::nullopt, kThreads};
  const auto dispatcher = std::make_shared<Dispatcher>(settings);
  Tally tally;
  {
    Scheduler scheduler(dispatcher, kThreads);
    scheduler.serve({make_model(half)});
    std::atomic<bool> over{false};
    std::thread control([&] {
      for (int i = 0; !over; ++i) {
        if (i < kReloads) scheduler.serve({make_model(half)});
        dispatcher->tick(now_s(), 0.5, 0.0);
        dispatcher->counters();
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
    std::vector<std::thread> clients;
    for (int number = 0; number < kClients; ++number) {
      const std::size_t largest = number % 3 == 0 ? 1 : number % 3 == 1 ? 16 : 100;
      clients.emplace_back([&, number, largest] {
        ask(scheduler, *half, number, requests, largest, tally);
      });
    }
    for (std::thread& client : clients) client.join();
    over = true;
    control.join();
  }
  const auto [waiting, samples] = dispatcher->queued();
  const int all = tally.answered + tally.refused + tally.withdrawn;
  std::printf("scheduling: %d answered, %d refused, %d withdrawn, %d wrong, %d wait\n",
              tally.answered.load(), tally.refused.load(), tally.withdrawn.load(),
              tally.wrong.load(), static_cast<int>(waiting + samples));
  const bool right = all == kClients * requests && tally.wrong == 0 && waiting == 0 &&
                     tally.answered > 0 && dispatcher->counters().requests[0] == all;
  return right ? 0 : 1;
}
