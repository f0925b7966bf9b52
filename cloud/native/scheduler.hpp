// Computes the serialised response to a serialised request: at once, or in compute threads after it
// waited in the queue. Any thread may call any method.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "outcome.hpp"
#include "stream_state.hpp"

namespace taper {

class Dispatcher;
class Model;
struct Queued;

enum class Begun {
  kDone,       // the outcome is in the answer
  kQueued,     // the callback will receive the outcome
  kElsewhere,  // the request cannot be answered here and goes to the Python service
};

// Refers to a queued request.
using Ticket = std::weak_ptr<Queued>;

class Scheduler {
 public:
  // Receives the outcome of a queued request in a compute thread, which it must not block. It may
  // be called before `infer` has returned, and is never called after `withdraw` has returned true.
  using Done = std::function<void(Outcome&&)>;

  struct Answer {
    Begun begun = Begun::kElsewhere;
    Outcome outcome;  // if kDone
    Ticket ticket;    // if kQueued
  };

  // `dispatcher` is shared with the Python front, and with it queue, credit and load.
  Scheduler(std::shared_ptr<Dispatcher> dispatcher, std::size_t threads);

  // Stops the scheduler.
  ~Scheduler();

  // Ends the threads after their present batches and answers the requests that still wait with
  // kUnavailable. Only `withdraw` and `count` may be called from then on.
  void stop();

  // Serves these models from now on. The first is the default model; among the versions of a name
  // the first is the default version. Requests that have begun finish with the model that they
  // found.
  void serve(std::vector<std::shared_ptr<Model>> models);

  // Begins to answer a serialised InferRequest of `client`, whose deadline is in `remaining_s`
  // seconds (infinite: it has none). `stream` is null for a single call. The bytes are copied if
  // the request is queued.
  Answer infer(std::string_view request, std::string_view client, double remaining_s,
               const std::shared_ptr<StreamState>& stream, Done done);

  // Answers a serialised ModelInferRequest of the Open Inference Protocol: kDone or kElsewhere.
  Answer infer_images(std::string_view request, std::string_view client);

  // Removes the request of a client that has gone. True if its callback will never be called.
  bool withdraw(const Ticket& ticket);

  // Counts a finished request by its status, with the bytes of its messages. The front calls this,
  // not the scheduler, because an answer may still fail to reach its client.
  void count(int status, std::size_t received_bytes, std::size_t sent_bytes);

  const std::shared_ptr<Dispatcher>& dispatcher() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace taper
