// From the bytes of a request to those of its response: what runs at once, waits or is refused, and
// the threads that compute what waits. Any thread may call any method.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "look_memory.hpp"

namespace taper {

class Dispatcher;
class Model;

// Status codes of gRPC that a scheduler gives.
enum class Status : int {
  kOk = 0,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kResourceExhausted = 8,
  kInternal = 13,
  kUnavailable = 14,
};

// What came of a request: the serialised response, or why there is none.
struct Outcome {
  Status status = Status::kOk;
  std::string response;              // if kOk
  std::string message;               // else
  std::uint32_t retry_after_ms = 0;  // with kResourceExhausted and kUnavailable, unless 0
  std::uint64_t id = 0;              // of the request
};

// A serialised InferResponse that holds the failure of `outcome`, for streams.
std::string failure_response(const Outcome& outcome);

// What a stream remembers between its messages. For one thread at a time.
struct StreamState {
  std::string model;    // named last; they hold for messages that name none
  std::string version;
  LookMemory looks;     // requests at which the server asked for another look
};

enum class Begun {
  kDone,       // the outcome is there
  kQueued,     // the callback will receive it
  kElsewhere,  // not answered here: the Python service says what is to be said
};

// Names a queued request; 0 names none.
using Ticket = std::uint64_t;

class Scheduler {
 public:
  // Receives an outcome in a compute thread, which it must not block. Never called after `withdraw`
  // has returned true, and never by the call that queued the request.
  using Done = std::function<void(Outcome&&)>;

  struct Answer {
    Begun begun = Begun::kElsewhere;
    Outcome outcome;    // if kDone
    Ticket ticket = 0;  // if kQueued
  };

  // Shares `dispatcher`, and so queue, credit and load, with the Python front.
  Scheduler(std::shared_ptr<Dispatcher> dispatcher, std::size_t threads);

  // Ends the threads after their batches; whatever waits then gets kUnavailable.
  ~Scheduler();

  // Serves these models from now on, the default first; of two versions of a name the earlier is the
  // default. What was begun finishes on the model that it found.
  void serve(std::vector<std::shared_ptr<Model>> models);

  // Begins a serialised InferRequest of `client`, of which `remaining_s` (infinite: none) is left to
  // its deadline. `stream` is null for a single call; it is changed by this call alone and must
  // outlive the callback. The bytes are copied if the request waits.
  Answer infer(std::string_view request, std::string_view client, double remaining_s,
               const std::shared_ptr<StreamState>& stream, Done done);

  // Answers a serialised ModelInferRequest of the Open Inference Protocol at once, or not here.
  Answer infer_images(std::string_view request, std::string_view client);

  // Removes a request whose client has gone. True if its callback will never be called.
  bool withdraw(Ticket ticket);

  // Counts a finished request with the bytes of its messages. Outcomes are counted by the front, as
  // an answer may still fail to reach its client.
  void count(Status status, std::size_t received_bytes, std::size_t sent_bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace taper
