#include "clients.hpp"

#include <arpa/inet.h>
#include <openssl/evp.h>

#include <cstring>
#include <utility>

namespace taper {
namespace {

constexpr std::string_view kScheme = "bearer ";
constexpr std::size_t kMostUsed = 65536;  // most connections that are remembered until `take_used`

// The host of ipv6:[::1]:50312 or ipv6:%5B::1%5D:50312, without its zone.
std::string host_of_ipv6(std::string_view rest) {
  std::string host(rest.substr(0, rest.rfind(':')));
  for (const std::string_view bracket : {"%5B", "%5D", "[", "]"}) {
    for (std::size_t at = host.find(bracket); at != std::string::npos; at = host.find(bracket)) {
      host.erase(at, bracket.size());
    }
  }
  return host.substr(0, host.find('%'));
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The token in "Bearer TOKEN", or nothing if the header has another form.
std::optional<std::string_view> token_of(std::string_view header) {
  if (header.size() < kScheme.size()) return std::nullopt;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = header[i];
    if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != kScheme[i]) return std::nullopt;
  }
  header.remove_prefix(kScheme.size());
  while (!header.empty() && is_space(header.front())) header.remove_prefix(1);
  while (!header.empty() && is_space(header.back())) header.remove_suffix(1);
  for (const char c : header) {
    if (c & 0x80) return std::nullopt;  // Python decides on tokens that are not ASCII
  }
  return header;
}

std::string sha256(std::string_view text) {
  std::string digest(32, '\0');
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(digest.data()), &size,
             EVP_sha256(), nullptr);
  return digest;
}

std::string over(const std::string& limit) {
  return "server: " + limit + " at a time are allowed to one client";
}

}  // namespace

std::string client_of(std::string_view peer) {
  if (peer.rfind("ipv4:", 0) == 0) {
    const std::string_view rest = peer.substr(5);
    return std::string(rest.substr(0, rest.rfind(':')));
  }
  if (peer.rfind("ipv6:", 0) != 0) return std::string(peer);
  in6_addr address{};
  if (inet_pton(AF_INET6, host_of_ipv6(peer.substr(5)).c_str(), &address) != 1) {
    return std::string(peer);
  }
  char text[INET6_ADDRSTRLEN];
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    inet_ntop(AF_INET, address.s6_addr + 12, text, sizeof text);
    return text;
  }
  std::memset(address.s6_addr + 8, 0, 8);
  inet_ntop(AF_INET6, &address, text, sizeof text);
  return std::string(text) + "/64";
}

void Clients::set_owners(std::shared_ptr<const Owners> owners) {
  std::atomic_store(&owners_, std::move(owners));
}

std::optional<std::string> Clients::identify(
    std::string_view peer, std::optional<std::string_view> authorization) const {
  const auto owners = std::atomic_load(&owners_);
  if (!owners) return client_of(peer);
  const auto token = authorization ? token_of(*authorization) : std::nullopt;
  if (!token) return std::nullopt;
  const auto found = owners->find(sha256(*token));
  if (found == owners->end()) return std::nullopt;
  return found->second;
}

std::string Clients::enter(const std::string& client, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = uses_.try_emplace(client).first;
  Use& use = found->second;
  // As in Python, a client's only call may be of any size.
  if (use.calls >= limits_.calls) return over(std::to_string(limits_.calls) + " calls");
  if (use.calls > 0 && use.bytes + bytes > limits_.call_bytes) {
    return over("calls of " + std::to_string(limits_.call_bytes) + " bytes in all");
  }
  ++use.calls;
  use.bytes += bytes;
  entered_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

void Clients::leave(const std::string& client, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = uses_.find(client);
  if (found == uses_.end()) return;
  found->second.bytes -= bytes;
  if (--found->second.calls == 0) uses_.erase(found);
  entered_.fetch_sub(1, std::memory_order_relaxed);
}

bool Clients::enter_other(const std::string& client) {
  const std::lock_guard lock(mutex_);
  std::size_t& others = others_[client];
  if (others >= limits_.streams + limits_.calls) return false;
  ++others;
  return true;
}

void Clients::leave_other(const std::string& client) {
  const std::lock_guard lock(mutex_);
  const auto found = others_.find(client);
  if (found != others_.end() && --found->second == 0) others_.erase(found);
}

void Clients::use(const std::string& peer) {
  const std::lock_guard lock(used_mutex_);
  if (used_.size() < kMostUsed) used_.insert(peer);
}

std::vector<std::string> Clients::take_used() {
  std::unordered_set<std::string> used;
  {
    const std::lock_guard lock(used_mutex_);
    used.swap(used_);
  }
  return {used.begin(), used.end()};
}

}  // namespace taper
