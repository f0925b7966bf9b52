// Identifies the client of a call and limits its calls under way, by the rules of cloud/access, for
// calls that are answered without Python.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace taper {

// The client that a peer counts as: ipv4:10.0.0.7:50312 -> 10.0.0.7, the /64 network for IPv6, and
// the name itself for any other.
std::string client_of(std::string_view peer);

struct ClientLimits {
  std::size_t streams;
  std::size_t calls;
  std::size_t call_bytes;
};

// Any thread may call any method.
class Clients {
 public:
  using Owners = std::unordered_map<std::string, std::string>;  // by SHA-256 of their tokens

  explicit Clients(ClientLimits limits) : limits_(limits) {}

  // Requires each caller to show one of these tokens. Null: no token is needed.
  void set_owners(std::shared_ptr<const Owners> owners);

  // The client of a call with this authorization header, if it has one. Nothing if the decision is
  // left to Python.
  std::optional<std::string> identify(std::string_view peer,
                                      std::optional<std::string_view> authorization) const;

  // Count a call with a request of `bytes`. If that would exceed a limit, the call is not counted
  // and the result says which limit; else the result is empty.
  std::string enter(const std::string& client, std::size_t bytes);
  void leave(const std::string& client, std::size_t bytes);

  // Count a stream, or a call that Python answers; false if the client has more than Python could
  // allow.
  bool enter_other(const std::string& client);
  void leave_other(const std::string& client);

  // Number of counted calls of all clients.
  std::size_t calls() const { return entered_.load(std::memory_order_relaxed); }

  // Remember that a connection was used. `take_used` returns those since it was last called.
  void use(const std::string& peer);
  std::vector<std::string> take_used();

 private:
  struct Use {
    std::size_t calls = 0;
    std::size_t bytes = 0;
  };

  const ClientLimits limits_;
  std::shared_ptr<const Owners> owners_;  // read and replaced atomically
  std::atomic<std::size_t> entered_{0};
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Use> uses_;
  std::unordered_map<std::string, std::size_t> others_;
  std::mutex used_mutex_;
  std::unordered_set<std::string> used_;
};

}  // namespace taper
