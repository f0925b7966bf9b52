// A gRPC server whose threads answer cheap inference requests and pass everything else to Python.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <time.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "acceptor.hpp"
#include "call.hpp"
#include "clients.hpp"
#include "event_queue.hpp"
#include "scheduler.hpp"

namespace taper {

struct FrontSettings {
  int max_message_bytes;
  int max_streams;  // of a connection
  bool shared_port;
  bool all_to_python;  // Python sees every request, as it makes spans of them
  bool tell_refusals;  // Python logs them
  ClientLimits limits;
};

class Front {
 public:
  // Computes what waits in `threads` threads. `dispatcher` is Python's too.
  Front(const FrontSettings& settings, std::shared_ptr<Dispatcher> dispatcher, int threads);
  // Stops at once if `stop` was not called.
  ~Front();
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  // Listens and serves with as many threads; the port, or 0 if the address cannot be had.
  int start(const std::string& address, std::shared_ptr<grpc::ServerCredentials> credentials);

  // Ends calls that are under way after `grace_s`, and returns when nothing is left. For one thread.
  void stop(double grace_s);

  // Seconds of CPU time of the threads that serve, all together; 0 after the end.
  double cpu_s() const;

  EventQueue& events() { return events_; }
  Scheduler& scheduler() { return *scheduler_; }
  Clients& clients() { return clients_; }
  // What the acceptor has closed since the last time.
  Cuts take_cuts() { return acceptor_ ? acceptor_->take_cuts() : Cuts{}; }
  // Connections that are remembered.
  std::size_t connections() { return acceptor_ ? acceptor_->accounts() : 0; }
  std::shared_ptr<Account> account(const std::string& peer) { return acceptor_->account(peer); }

  // For calls:
  bool all_to_python() const { return settings_.all_to_python; }
  UnaryCalls& unary_calls() { return unary_calls_; }
  grpc::AsyncGenericService& other_calls() { return other_calls_; }
  grpc::ServerCompletionQueue* queue() { return queue_.get(); }
  // Count an inference request with its outcome.
  void count(const Outcome& outcome, const std::string& client, std::size_t received_bytes,
             std::size_t sent_bytes);
  void request_unary(int method);
  void request_other();
  void enter();
  void leave();

 private:
  void serve();

  const FrontSettings settings_;
  EventQueue events_;
  const int thread_count_;
  Clients clients_;
  std::unique_ptr<Scheduler> scheduler_;
  UnaryCalls unary_calls_;
  grpc::AsyncGenericService other_calls_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;  // gRPC keeps only what is inside
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::thread> threads_;
  std::vector<clockid_t> clocks_;  // of their CPU time
  std::atomic<std::uint64_t> last_id_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable none_left_;
  std::size_t calls_ = 0;  // that gRPC knows, those that wait for a client included
};

}  // namespace taper
