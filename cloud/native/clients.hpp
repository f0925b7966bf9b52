// Who a caller is, and what it has under way with Python: as cloud/access has it, for calls that are
// answered without Python.
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

// Who counts as one client: ipv4:10.0.0.7:50312 -> 10.0.0.7; of IPv6 the /64. Other names are kept.
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

  // Whoever calls must show a token of these; null: nobody need.
  void set_owners(std::shared_ptr<const Owners> owners);

  // The client, given the only authorization header, if there is one. Nothing if Python must judge.
  std::optional<std::string> identify(std::string_view peer,
                                      std::optional<std::string_view> authorization) const;

  // Count a call with a request of `bytes`; what is over the limits if it may not be, else nothing.
  std::string enter(const std::string& client, std::size_t bytes);
  void leave(const std::string& client, std::size_t bytes);

  // Count a stream, or a call that only Python knows; false if there are more than Python could allow.
  bool enter_other(const std::string& client);
  void leave_other(const std::string& client);

  // Calls that are counted.
  std::size_t calls() const { return entered_.load(std::memory_order_relaxed); }

  // Remember that a connection was used; `take_used` gives those since the last time.
  void use(const std::string& peer);
  std::vector<std::string> take_used();

 private:
  struct Use {
    std::size_t calls = 0;
    std::size_t bytes = 0;
  };

  const ClientLimits limits_;
  std::shared_ptr<const Owners> owners_;  // read and replaced atomically
  std::atomic<std::size_t> entered_{0};  // calls
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Use> uses_;
  std::unordered_map<std::string, std::size_t> others_;
  std::mutex used_mutex_;
  std::unordered_set<std::string> used_;
};

}  // namespace taper
