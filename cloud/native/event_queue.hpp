// The events that the front's threads pass to Python's event loop, in the order in which they
// happened.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace taper {

class Call;

enum class EventKind : int {
  kCall = 0,      // a new call: `call` is set, `data` is the request of a unary one
  kMessage = 1,   // a message of a stream
  kReadEnd = 2,   // the client has closed its side
  kWritten = 3,   // a response was written, or could not be
  kAnswered = 4,  // a stream that has stopped reading has sent all its answers
  kEnded = 5,     // the call is over, ended by either side
  kRefused = 6,   // the request `id` was refused: `data` says why, `named` holds its client and status
};

struct Event {
  EventKind kind;
  std::uint64_t id;
  std::string data = {};
  std::shared_ptr<Call> call = nullptr;
  // With a message: the model and version that the stream named last, unless Python has yet to
  // begin with an earlier message, which may name others.
  std::optional<std::pair<std::string, std::string>> named = std::nullopt;
};

// Any thread may put events; one thread takes them. The file descriptor is readable while there are
// events.
class EventQueue {
 public:
  EventQueue() : file_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (file_ < 0) throw std::runtime_error("front: no file descriptor is left for its events");
  }
  ~EventQueue() { close(file_); }
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  int file() const { return file_; }

  void put(Event event) {
    bool first = false;
    {
      const std::lock_guard lock(mutex_);
      first = events_.empty();
      events_.push_back(std::move(event));
    }
    if (first) eventfd_write(file_, 1);
  }

  // Takes all events, except those of calls that both began and ended since the last call.
  std::vector<Event> take() {
    eventfd_t count = 0;
    eventfd_read(file_, &count);
    std::vector<Event> events;
    {
      const std::lock_guard lock(mutex_);
      events.swap(events_);
    }
    std::unordered_set<std::uint64_t> begun;
    std::unordered_set<std::uint64_t> over;
    for (const Event& event : events) {
      if (event.kind == EventKind::kCall) begun.insert(event.id);
      if (event.kind == EventKind::kEnded && begun.count(event.id) > 0) over.insert(event.id);
    }
    if (!over.empty()) {
      const auto gone = [&over](const Event& event) { return over.count(event.id) > 0; };
      events.erase(std::remove_if(events.begin(), events.end(), gone), events.end());
    }
    return events;
  }

 private:
  const int file_;
  std::mutex mutex_;
  std::vector<Event> events_;
};

}  // namespace taper
