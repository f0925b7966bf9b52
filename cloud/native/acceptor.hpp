// Takes connections for gRPC, and watches what each of them sends.
//
// gRPC 1.51 listens no more once a connection came while no file was left (CVE-2023-4785): here the
// listening sockets are ours. And its limits miss headers without an end (CVE-2023-33953), calls that
// are taken back at once (CVE-2023-44487) and frames that are no request. So a connection is closed
// that sends much while the server has no reason to send anything: whoever takes messages sends
// window updates and answers. What a client sends beyond calls and their messages has a limit. And so
// have the streams of a connection: gRPC's own limit holds only clients that have confirmed it.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

namespace taper {

// The calls and messages of a connection. Any thread may count.
class Account {
 public:
  void note_call() { calls_.fetch_add(1, std::memory_order_relaxed); }
  void note_message(std::size_t bytes) {
    messages_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }

  // The most bytes on the wire that these calls and messages and `seconds` of being open explain.
  std::uint64_t explained(double seconds) const;

 private:
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> messages_{0};
  std::atomic<std::uint64_t> bytes_{0};
};

// Connections that were closed for what they had sent: how many, and the last one's peer and fault.
struct Cuts {
  std::uint64_t count = 0;
  std::string peer = {};
  std::string fault = {};
};

class Acceptor {
 public:
  using Taker = std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor>;

  // Give connections to `taker`. A client may have sent `most_unexplained` bytes that are part of no
  // call or message yet, over all of its connections; then those that have most are closed. A
  // connection may have `most_streams` open streams, for a start some more.
  Acceptor(Taker taker, std::uint64_t most_unexplained, std::uint64_t most_streams);
  ~Acceptor() { stop(); }
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // Listen on HOST:PORT, where port 0 is a free one; the port, or 0 with errno set.
  int listen(const std::string& address, bool shared_port);

  // Accept from now on, when gRPC's server runs.
  void start();

  // Close the listening sockets. Connections go on.
  void stop();

  // The account of a connection, by gRPC's name of the peer.
  std::shared_ptr<Account> account(std::string_view peer);

  // How many accounts it keeps: one for each open connection, and a little while longer.
  std::size_t accounts();

  // What was closed since the last time.
  Cuts take_cuts();

 private:
  struct Connection {
    sockaddr_storage peer;
    std::string name;    // address and port
    std::string client;  // the address, or the /64 of it
    double since_s;
    std::shared_ptr<Account> account;
    std::uint64_t sent = 0;         // by the server
    std::uint64_t sent_after = 0;   // bytes received when that changed last
    std::uint64_t counted_at = 0;   // bytes received when its streams were counted last
    std::intptr_t socket = 0;       // gRPC's number of it, once that is known
  };
  using Sockets = std::unordered_map<std::string, std::intptr_t>;  // by name

  int listen_on(const sockaddr* address, socklen_t size, bool shared_port);
  void accept();
  void accept_all(int listener);
  void watch();
  void look();
  bool has_too_many_streams(Connection& connection, std::uint64_t received,
                            std::optional<Sockets>& sockets) const;
  void cut(int file, const char* fault);
  void forget(std::map<int, Connection>::iterator connection);

  const Taker taker_;
  const std::uint64_t most_unexplained_;
  const std::uint64_t most_streams_;
  std::vector<int> listeners_;
  int wake_ = -1;
  std::thread accepting_;
  std::thread watching_;  // by itself, as gRPC may go on to read what the other one gives to it
  std::mutex connections_mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::map<int, Connection> connections_;  // by file
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<Account>> accounts_;  // by name
  Cuts cuts_;
};

}  // namespace taper
