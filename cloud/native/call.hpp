// One call of a client, from its arrival until gRPC has nothing more to say about it.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_unary_call.h>

#include <array>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "acceptor.hpp"
#include "scheduler.hpp"

namespace taper {

class Front;

// The purpose of an asynchronous gRPC operation.
enum class Step : int { kArrived, kRead, kWritten, kFinished, kEnded };
constexpr std::size_t kSteps = 5;

struct Tag {
  class Call* call;
  Step step;
};

using Metadata = std::vector<std::pair<std::string, std::string>>;

// The status, message and trailing metadata with which a call ends.
struct Ending {
  int status = 0;
  std::string message = {};
  Metadata trailer = {};
};

// The description of a call that Python receives.
struct CallInfo {
  std::string method;
  std::string peer;
  Metadata metadata;
  double remaining_s = std::numeric_limits<double>::infinity();
};

// Any thread may call any method. After the end of a call the methods do nothing.
class Call : public std::enable_shared_from_this<Call> {
 public:
  virtual ~Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Wait for a client.
  virtual void request() = 0;

  // Handle the completion of an operation. Called by the front's threads only.
  void proceed(Step step, bool ok);

  const CallInfo& info() const { return info_; }
  std::uint64_t id() const { return id_; }

  void finish(const Ending& ending);
  void cancel();

 protected:
  Call(Front& front, std::uint64_t id);

  // Count an operation that begins, and return its tag.
  void* begin(Step step);
  // Handle the completion of any operation but the arrival, and the arrival.
  virtual void on(Step step, bool ok) = 0;
  virtual void arrived() = 0;
  virtual void start_finish(const Ending& ending) = 0;
  virtual grpc::ServerContextBase& context() = 0;
  // Withdraw the waiting requests, as the client has gone. The caller holds the lock.
  virtual void withdraw() = 0;
  // Free gRPC's objects. Python may hold the call for longer than gRPC needs it.
  virtual void release() = 0;

  // Count a call that has arrived, once its peer is known.
  void note_call();
  double remaining_s();  // time until its deadline, infinite if it has none
  // Fill in `info_`.
  void learn(std::string method);
  std::optional<std::string> client() const;
  // Whether the call may be ended now; true for one caller only. The caller holds the lock.
  bool start_finishing();
  bool over() const { return ended_ || finishing_; }

  Front& front_;
  const std::uint64_t id_;
  std::mutex mutex_;
  CallInfo info_;
  std::shared_ptr<Account> account_;  // that of its connection
  bool python_knows_ = false;

 private:
  std::array<Tag, kSteps> tags_;
  std::shared_ptr<Call> kept_;  // a reference to itself, while gRPC may use it
  int pending_ = 0;
  bool ended_ = false;
  bool finishing_ = false;
};

// The methods with one request and one response. gRPC reads the request before the call arrives.
class UnaryCalls : public grpc::Service {
 public:
  UnaryCalls();
  static constexpr int kInfer = 0;
  static constexpr int kModelInfer = 1;
  static constexpr std::array<const char*, 2> kMethods = {
      "/taper.split.v1.SplitInference/Infer", "/inference.GRPCInferenceService/ModelInfer"};

  void request(int method, grpc::ServerContext* context, grpc::ByteBuffer* request,
               grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>* responder,
               grpc::ServerCompletionQueue* queue, void* tag) {
    RequestAsyncUnary(method, context, request, responder, queue, queue, tag);
  }
};

class UnaryCall final : public Call {
 public:
  UnaryCall(Front& front, std::uint64_t id, int method);
  void request() override;

  // End the call with a response.
  void respond(std::string_view response);

 private:
  struct Parts {
    grpc::ServerContext context;
    grpc::ByteBuffer request;
    grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder{&context};
  };

  void arrived() override;
  void on(Step, bool) override {}
  void withdraw() override;
  void start_finish(const Ending& ending) override;
  grpc::ServerContextBase& context() override { return parts_->context; }
  void release() override;

  const int method_;
  std::unique_ptr<Parts> parts_ = std::make_unique<Parts>();
  void begin_with(std::string_view request, std::string client);
  void hand_to_python(std::string_view request);
  void end(const Outcome& outcome);

  Ticket ticket_;
  std::string client_;
  std::size_t received_bytes_ = 0;
};

// A call of any other method. Its messages go to Python until it is attached; from then on they are
// answered here as they come.
class StreamCall final : public Call {
 public:
  // Number of unanswered requests of an attached stream at which reading pauses.
  static constexpr std::size_t kInFlight = 64;

  StreamCall(Front& front, std::uint64_t id);
  void request() override;

  // Read one message; kMessage or kReadEnd follows.
  void read();
  // Write one message; kWritten follows.
  void write(std::string_view message);
  // End the call with its only response.
  void respond(std::string_view response);

  // Answer requests of `client` here from now on; those that cannot be answered here go to Python.
  void attach(std::string client);
  // Note that Python has begun with the oldest message that it had not begun with, and which model
  // and version the messages after it mean unless they name others.
  void begun(std::string model, std::string version);
  // Send the response to a request that Python, or the scheduler, has answered.
  void answer(std::string_view response);
  // Stop reading. kAnswered follows when all requests that were read are answered.
  void leave();

 private:
  struct Parts {
    grpc::GenericServerContext context;
    grpc::GenericServerAsyncReaderWriter stream{&context};
    grpc::ByteBuffer in;
  };

  void arrived() override;
  void on(Step step, bool ok) override;
  void withdraw() override;
  void start_finish(const Ending& ending) override;
  grpc::ServerContextBase& context() override { return parts_->context; }
  void release() override;

  void on_message(std::string_view message);
  void on_outcome(Outcome&& outcome, std::size_t received_bytes);
  void start_read();
  void send(std::string_view response);
  void start_write(std::string_view response);
  void go_on();

  std::unique_ptr<Parts> parts_ = std::make_unique<Parts>();
  std::string counted_as_;  // the client whose call this is counted as
  std::string client_;      // set once the stream is attached
  std::shared_ptr<StreamState> state_;
  std::vector<Ticket> tickets_;  // requests that may still be in the queue
  std::deque<std::string> ready_;
  std::size_t unsent_ = 0;       // responses that are ready or being written
  std::size_t with_others_ = 0;  // requests that Python or the scheduler is answering
  std::size_t not_begun_ = 0;    // those of them with which Python has not begun
  bool attached_ = false;
  bool reading_ = false;
  bool handling_ = false;
  bool writing_ = false;
  bool read_end_ = false;
  bool leaving_ = false;
  bool told_answered_ = false;
};

}  // namespace taper
