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

#include "outcome.hpp"
#include "stream_state.hpp"

namespace taper {

class Dispatcher;
class Model;
struct Queued;

enum class Begun {
  kDone,       // the outcome is there
  kQueued,     // the callback will receive it
  kElsewhere,  // not answered here: the Python service says what is to be said
};

// Names a queued request.
using Ticket = std::weak_ptr<Queued>;

class Scheduler {
 public:
  // Receives an outcome in a compute thread, which it must not block; at the earliest while the call
  // that queues the request returns, and never after `withdraw` has returned true.
  using Done = std::function<void(Outcome&&)>;

  struct Answer {
    Begun begun = Begun::kElsewhere;
    Outcome outcome;  // if kDone
    Ticket ticket;    // if kQueued
  };

  // Shares `dispatcher`, and so queue, credit and load, with the Python front.
  Scheduler(std::shared_ptr<Dispatcher> dispatcher, std::size_t threads);

  // Stops it.
  ~Scheduler();

  // Ends the threads after their batches; whatever waits then gets kUnavailable. Call nothing but
  // `withdraw` and `count` from then on.
  void stop();

  // Serves these models from now on, the default first; of two versions of a name the earlier is the
  // default. What was begun finishes on the model that it found.
  void serve(std::vector<std::shared_ptr<Model>> models);

  // Begins a serialised InferRequest of `client`, of which `remaining_s` (infinite: none) is left to
  // its deadline. `stream` is null for a single call. The bytes are copied if the request waits.
  Answer infer(std::string_view request, std::string_view client, double remaining_s,
               const std::shared_ptr<StreamState>& stream, Done done);

  // Answers a serialised ModelInferRequest of the Open Inference Protocol at once, or not here.
  Answer infer_images(std::string_view request, std::string_view client);

  // Removes a request whose client has gone. True if its callback will never be called.
  bool withdraw(const Ticket& ticket);

  // Counts a finished request by its status, with the bytes of its messages. Fronts count outcomes,
  // as an answer may still fail to reach its client.
  void count(int status, std::size_t received_bytes, std::size_t sent_bytes);

  const std::shared_ptr<Dispatcher>& dispatcher() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace taper
