#include "front.hpp"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <chrono>

namespace taper {
namespace {

constexpr int kWaiting = 64;  // calls of each kind that wait for a client
// More than proxies pass on: gRPC 1.51 loses its place in the headers of a connection above it.
constexpr int kMostMetadataBytes = 64 * 1024;
constexpr int kLookaheadBytes = 256 * 1024;

// While it lives, threads that are started take no signals: those are the interpreter's.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

Front::Front(const FrontSettings& settings, std::shared_ptr<Dispatcher> dispatcher, int threads)
    : settings_(settings), thread_count_(threads), clients_(settings.limits) {
  const SignalsBlocked blocked;
  scheduler_ = std::make_unique<Scheduler>(std::move(dispatcher), static_cast<std::size_t>(threads));
}

Front::~Front() { stop(0); }

int Front::start(const std::string& address, std::shared_ptr<grpc::ServerCredentials> credentials) {
  const SignalsBlocked blocked;
  mallopt(M_ARENA_MAX, thread_count_ + 1);  // what one thread frees, others then use
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(settings_.max_message_bytes);
  builder.AddChannelArgument("grpc.max_concurrent_streams", settings_.max_streams);
  builder.AddChannelArgument("grpc.keepalive_time_ms", 60'000);
  builder.AddChannelArgument("grpc.keepalive_timeout_ms", 20'000);
  builder.AddChannelArgument("grpc.http2.min_ping_interval_without_data_ms", 10'000);
  builder.AddChannelArgument("grpc.http2.max_ping_strikes", 3);
  builder.AddChannelArgument("grpc.max_metadata_size", kMostMetadataBytes);
  // For the acceptor: whoever takes messages then sends something within each megabyte.
  builder.AddChannelArgument("grpc.http2.bdp_probe", 0);
  builder.AddChannelArgument("grpc.http2.lookahead_bytes", kLookaheadBytes);
  credentials_ = std::move(credentials);
  acceptor_ = std::make_unique<Acceptor>(
      builder.experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials_),
      settings_.limits.call_bytes, static_cast<std::uint64_t>(settings_.max_streams));
  builder.RegisterService(&unary_calls_);
  builder.RegisterAsyncGenericService(&other_calls_);
  queue_ = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  const int port = server_ ? acceptor_->listen(address, settings_.shared_port) : 0;
  if (port == 0) return 0;
  for (int i = 0; i < kWaiting; ++i) {
    for (int method = 0; method < static_cast<int>(UnaryCalls::kMethods.size()); ++method) {
      request_unary(method);
    }
    request_other();
  }
  for (int i = 0; i < thread_count_; ++i) {
    threads_.emplace_back([this] { serve(); });
    clockid_t clock{};
    if (pthread_getcpuclockid(threads_.back().native_handle(), &clock) == 0) clocks_.push_back(clock);
  }
  acceptor_->start();
  return port;
}

void Front::serve() {
  pthread_setname_np(pthread_self(), "taper-front");
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
    const Tag* of = static_cast<Tag*>(tag);
    of->call->proceed(of->step, ok);
  }
}

void Front::stop(double grace_s) {
  if (stopping_.exchange(true)) return;
  if (acceptor_) acceptor_->stop();
  if (server_) {
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::microseconds(static_cast<std::int64_t>(grace_s * 1e6)));
    std::unique_lock lock(mutex_);
    none_left_.wait(lock, [this] { return calls_ == 0; });
  }
  if (queue_) queue_->Shutdown();
  if (threads_.empty() && queue_) {
    void* tag = nullptr;
    bool ok = false;
    while (queue_->Next(&tag, &ok)) {
    }
  }
  for (std::thread& thread : threads_) thread.join();
  scheduler_->stop();  // it stays: what it has computed for calls that are gone is counted there
  server_.reset();
  queue_.reset();
}

double Front::cpu_s() const {
  if (stopping_) return 0;
  double sum = 0;
  for (const clockid_t clock : clocks_) {
    timespec used{};
    if (clock_gettime(clock, &used) == 0) {  // not once the thread has ended
      sum += static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
    }
  }
  return sum;
}

void Front::count(const Outcome& outcome, const std::string& client, std::size_t received_bytes,
                  std::size_t sent_bytes) {
  const int status = static_cast<int>(outcome.status);
  scheduler_->count(status, received_bytes, sent_bytes);
  if (outcome.status == Status::kOk || !settings_.tell_refusals) return;
  Event event{EventKind::kRefused, outcome.id, outcome.message};
  event.named.emplace(client, std::to_string(status));
  events_.put(std::move(event));
}

void Front::request_unary(int method) {
  if (stopping_) return;
  std::make_shared<UnaryCall>(*this, ++last_id_, method)->request();
}

void Front::request_other() {
  if (stopping_) return;
  std::make_shared<StreamCall>(*this, ++last_id_)->request();
}

void Front::enter() {
  const std::lock_guard lock(mutex_);
  ++calls_;
}

void Front::leave() {
  const std::lock_guard lock(mutex_);
  if (--calls_ == 0) none_left_.notify_all();
}

}  // namespace taper
