#include "acceptor.hpp"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <utility>

#include "clients.hpp"
#include "open_streams.hpp"

namespace taper {
namespace {

constexpr int kBacklog = 4096;
constexpr auto kWatchPeriod = std::chrono::milliseconds(50);
constexpr int kNoRoomMs = 50;  // until accepting is tried again where no file was left

// What a connection may send until the server sends something. The front's window for messages is a
// quarter of it (`kWindowBytes`), and the kernel keeps no more of what nobody has read.
constexpr std::uint64_t kSilentBytes = 1 << 20;
constexpr int kBufferBytes = 1 << 17;  // the kernel doubles it

// What a connection sends beside messages: a handshake, a call's headers, frames around a message,
// pings and window updates while it is open.
constexpr std::uint64_t kConnectionBytes = 1 << 16;
constexpr std::uint64_t kCallBytes = 1 << 14;
constexpr std::uint64_t kMessageBytes = 256;
constexpr std::uint64_t kSecondBytes = 1 << 10;

// A client that has just connected may not have heard of its limit of streams.
constexpr std::uint64_t kMoreStreams = 1024;
constexpr double kMoreStreamsS = 5;
constexpr std::uint64_t kCountBytes = 1 << 12;  // from one count of its streams to the next

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

sockaddr* generic(sockaddr_storage* address) { return reinterpret_cast<sockaddr*>(address); }

// "10.0.0.7:50312" or "fe80::1:50312", also of an IPv4 address in IPv6; nothing of other sockets.
std::string name_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  std::uint16_t port = 0;
  if (address.ss_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
    port = ntohs(four.sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto& six = reinterpret_cast<const sockaddr_in6&>(address);
    if (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr)) {
      inet_ntop(AF_INET, six.sin6_addr.s6_addr + 12, text, sizeof text);
    } else {
      inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
    }
    port = ntohs(six.sin6_port);
  } else {
    return "";
  }
  return std::string(text) + ":" + std::to_string(port);
}

// The same of gRPC's name: ipv4:10.0.0.7:50312, ipv6:%5Bfe80::1%25eth0%5D:50312.
std::string name_of(std::string_view peer) {
  std::string name(peer.substr(std::min(peer.find(':') + 1, peer.size())));
  for (const std::string_view bracket : {"%5B", "%5D", "[", "]"}) {
    if (const std::size_t at = name.find(bracket); at != std::string::npos) {
      name.erase(at, bracket.size());
    }
  }
  if (const std::size_t zone = name.find('%'); zone != std::string::npos) {
    name.erase(zone, name.rfind(':') - zone);
  }
  return name;
}

struct Traffic {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
};

// Of a TCP connection; nothing where the kernel does not count it.
Traffic traffic_of(int file) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(file, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
  if (size < offsetof(tcp_info, tcpi_bytes_sent) + sizeof info.tcpi_bytes_sent) return {};
  return {info.tcpi_bytes_received, info.tcpi_bytes_sent};
}

bool is_wildcard(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  const auto* six = reinterpret_cast<const sockaddr_in6*>(address);
  return address->sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr);
}

void set_port(sockaddr* address, int port) {
  if (address->sa_family == AF_INET) {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = htons(static_cast<std::uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = htons(static_cast<std::uint16_t>(port));
  }
}

}  // namespace

std::uint64_t Account::explained(double seconds) const {
  return kConnectionBytes + kCallBytes * calls_.load(std::memory_order_relaxed) +
         kMessageBytes * messages_.load(std::memory_order_relaxed) +
         bytes_.load(std::memory_order_relaxed) * 5 / 4 +
         kSecondBytes * static_cast<std::uint64_t>(seconds);
}

Acceptor::Acceptor(Taker taker, std::uint64_t most_unexplained, std::uint64_t most_streams)
    : taker_(std::move(taker)), most_unexplained_(most_unexplained), most_streams_(most_streams) {}

int Acceptor::listen(const std::string& address, bool shared_port) {
  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  errno = EADDRNOTAVAIL;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) return 0;
  int port = 0;
  int error = 0;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (port != 0) set_port(one->ai_addr, port);  // all addresses of a name have one port
    sockaddr_in6 every{};  // a wildcard takes both kinds of addresses, as gRPC's does
    every.sin6_family = AF_INET6;
    every.sin6_addr = in6addr_any;
    every.sin6_port = reinterpret_cast<const sockaddr_in*>(one->ai_addr)->sin_port;
    int got = 0;
    if (is_wildcard(one->ai_addr)) {
      got = listen_on(reinterpret_cast<const sockaddr*>(&every), sizeof every, shared_port);
      if (got == 0 && (errno == EADDRINUSE || errno == EACCES)) {
        error = errno;
        break;
      }
    }
    const bool both = got != 0;
    if (got == 0) got = listen_on(one->ai_addr, one->ai_addrlen, shared_port);
    if (got == 0) error = errno;
    if (got != 0) port = got;
    if (both) break;
  }
  freeaddrinfo(found);
  errno = error;
  return port;
}

int Acceptor::listen_on(const sockaddr* address, socklen_t size, bool shared_port) {
  const int file = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (file < 0) return 0;
  const int on = 1;
  const int off = 0;
  setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(file, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof kBufferBytes);
  if (shared_port) setsockopt(file, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (address->sa_family == AF_INET6) {
    setsockopt(file, IPPROTO_IPV6, IPV6_V6ONLY, is_wildcard(address) ? &off : &on, sizeof on);
  }
  sockaddr_storage bound{};
  socklen_t bound_size = sizeof bound;
  if (bind(file, address, size) != 0 || ::listen(file, kBacklog) != 0 ||
      getsockname(file, generic(&bound), &bound_size) != 0) {
    const int error = errno;
    close(file);
    errno = error;
    return 0;
  }
  listeners_.push_back(file);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
}

void Acceptor::start() {
  wake_ = eventfd(0, EFD_CLOEXEC);
  accepting_ = std::thread([this] { accept(); });
  watching_ = std::thread([this] { watch(); });
}

void Acceptor::stop() {
  if (accepting_.joinable()) {
    eventfd_write(wake_, 1);
    accepting_.join();
    close(wake_);
    {
      const std::lock_guard lock(connections_mutex_);
      stopping_ = true;
    }
    stop_.notify_all();
    watching_.join();
  }
  for (const int listener : listeners_) close(listener);
  listeners_.clear();
}

std::shared_ptr<Account> Acceptor::account(std::string_view peer) {
  const std::lock_guard lock(mutex_);
  const auto found = accounts_.find(name_of(peer));
  return found == accounts_.end() ? std::make_shared<Account>() : found->second;
}

std::size_t Acceptor::accounts() {
  const std::lock_guard lock(mutex_);
  return accounts_.size();
}

void Acceptor::accept() {
  pthread_setname_np(pthread_self(), "taper-accept");
  std::vector<pollfd> polled{{wake_, POLLIN, 0}};
  for (const int listener : listeners_) polled.push_back({listener, POLLIN, 0});
  while (true) {
    const int ready = poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) return;
    for (std::size_t i = 1; ready > 0 && i < polled.size(); ++i) {
      if (polled[i].revents & (POLLHUP | POLLERR | POLLNVAL)) {
        polled[i].fd = -1;  // it was shut down: the server drains
      } else if (polled[i].revents & POLLIN) {
        accept_all(polled[i].fd);
      }
    }
  }
}

void Acceptor::accept_all(int listener) {
  for (int i = 0; i < kBacklog; ++i) {
    Connection made{};
    socklen_t size = sizeof made.peer;
    const int file = accept4(listener, generic(&made.peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (file < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        std::this_thread::sleep_for(std::chrono::milliseconds(kNoRoomMs));
        return;
      }
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    const int on = 1;
    setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    made.name = name_of(made.peer);
    made.client = client_of((made.name.find(':') == made.name.rfind(':') ? "ipv4:" : "ipv6:") + made.name);
    made.since_s = now_s();
    made.account = std::make_shared<Account>();
    {
      const std::lock_guard lock(mutex_);
      accounts_[made.name] = made.account;
    }
    {
      const std::lock_guard lock(connections_mutex_);
      // The number may be that of a connection which has closed since the watcher last looked.
      if (const auto closed = connections_.find(file); closed != connections_.end()) forget(closed);
      connections_.emplace(file, std::move(made));
    }
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = file;
    taker_->HandleNewConnection(&connection);
  }
}

void Acceptor::watch() {
  pthread_setname_np(pthread_self(), "taper-watch");
  std::unique_lock lock(connections_mutex_);
  while (!stop_.wait_for(lock, kWatchPeriod, [this] { return stopping_; })) look();
}

void Acceptor::look() {
  struct Excess {
    std::uint64_t bytes;
    int file;
  };
  std::unordered_map<std::string, std::vector<Excess>> clients;
  std::optional<Sockets> sockets;
  for (auto one = connections_.begin(); one != connections_.end();) {
    auto& [file, connection] = *one;
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    if (getpeername(file, generic(&peer), &size) != 0 || name_of(peer) != connection.name) {
      forget(one++);
      continue;
    }
    const Traffic traffic = traffic_of(file);
    if (traffic.sent != connection.sent) {
      connection.sent = traffic.sent;
      connection.sent_after = traffic.received;
    }
    const std::uint64_t explained = connection.account->explained(now_s() - connection.since_s);
    if (traffic.received - connection.sent_after > kSilentBytes) {
      cut(file, "sent much that is no request");
    } else if (has_too_many_streams(connection, traffic.received, sockets)) {
      cut(file, "has too many streams");
    } else if (traffic.received > explained) {
      clients[connection.client].push_back({traffic.received - explained, file});
    }
    ++one;
  }
  for (auto& [client, excesses] : clients) {
    std::uint64_t sum = 0;
    for (const Excess& one : excesses) sum += one.bytes;
    std::sort(excesses.begin(), excesses.end(),
              [](const Excess& a, const Excess& b) { return a.bytes > b.bytes; });
    for (const Excess& one : excesses) {
      if (sum <= most_unexplained_) break;
      cut(one.file, "its client sent more than its calls explain");
      sum -= one.bytes;
    }
  }
}

// Counts them when it may be otherwise than the last time. `sockets` is made when it is needed.
bool Acceptor::has_too_many_streams(Connection& connection, std::uint64_t received,
                                    std::optional<Sockets>& sockets) const {
  if (received < connection.counted_at + kCountBytes) return false;
  if (connection.socket == 0) {
    if (!sockets) {
      sockets.emplace();
      for (const auto& [peer, socket] : server_sockets()) sockets->emplace(name_of(peer), socket);
    }
    const auto found = sockets->find(connection.name);
    if (found == sockets->end()) return false;
    connection.socket = found->second;
  }
  const bool new_here = now_s() - connection.since_s < kMoreStreamsS;
  const std::uint64_t open = open_streams(connection.socket);
  if (open <= most_streams_) connection.counted_at = received;
  return open > most_streams_ + (new_here ? kMoreStreams : 0);
}

// Reset the connection; what it has sent and nobody has read is dropped, which `shutdown` would not do.
void Acceptor::cut(int file, const char* fault) {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  connect(file, &nobody, sizeof nobody);
  const std::lock_guard lock(mutex_);
  ++cuts_.count;
  cuts_.peer = connections_.at(file).name;
  cuts_.fault = fault;
}

Cuts Acceptor::take_cuts() {
  const std::lock_guard lock(mutex_);
  return std::exchange(cuts_, {});
}

void Acceptor::forget(std::map<int, Connection>::iterator connection) {
  const std::lock_guard lock(mutex_);
  const auto found = accounts_.find(connection->second.name);
  if (found != accounts_.end() && found->second == connection->second.account) {
    accounts_.erase(found);
  }
  connections_.erase(connection);
}

}  // namespace taper
